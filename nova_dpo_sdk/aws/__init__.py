"""Where AWS is: the session and its account, objects in S3, clusters and their tokens; the only boto3."""

from __future__ import annotations

import os
import re
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from nova_dpo_sdk._time import Clock, Retryable, RetryPolicy, SystemClock
from nova_dpo_sdk._version import __version__
from nova_dpo_sdk.aws import _clusters, _ranged, _token
from nova_dpo_sdk.aws._clusters import EKSCluster, HyperPodCluster, InstanceGroup
from nova_dpo_sdk.aws._errors import DAMAGED, SIGN_IN, aws_errors, credential_errors, no_region, settings_errors
from nova_dpo_sdk.aws._logs import LogEvent, LogGroup
from nova_dpo_sdk.aws._ranged import RangedObject
from nova_dpo_sdk.aws._retries import install_retries
from nova_dpo_sdk.aws._s3 import READ_LIMIT, ObjectStore, S3Uri, StoredObject
from nova_dpo_sdk.aws._token import Token
from nova_dpo_sdk.aws._upload import CONTENT_TYPE, PART, Measured, Upload, measure
from nova_dpo_sdk.errors import AccessDeniedError, ConfigurationError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    import boto3

__all__ = [
    "AWS",
    "CONTENT_TYPE",
    "EKSCluster",
    "HyperPodCluster",
    "InstanceGroup",
    "LogEvent",
    "LogGroup",
    "Measured",
    "RangedObject",
    "S3Uri",
    "StoredObject",
    "Token",
    "measure",
]

_ACCOUNT = re.compile(r"[0-9]{12}")


def is_account(account: object) -> bool:
    """Whether this is an AWS account's number: twelve digits, as a text."""
    return isinstance(account, str) and _ACCOUNT.fullmatch(account) is not None


class AWS:
    """One account in one Region. Building it does nothing; boto3 is imported when AWS is first asked.

    Args:
        session: A boto3 session, used as it is; boto3's default chain of credentials when left out.
        region: The Region; the session's when left out.
        account: The account's number, if known: twelve digits. Asked once when left out.
        clock: What tells the time.
        kms_key_id: KMS key (id, ARN or alias) for what is written to S3; the bucket's default when left out.
        max_attempts: Tries in all for one AWS call, at least 1.
        answer_within: Seconds without a byte after which an answer is given up, and asked for again.

    Raises:
        ConfigurationError: `account` is not twelve digits, or `max_attempts` is less than 1.
    """

    def __init__(
        self,
        session: boto3.Session | None = None,
        *,
        region: str | None = None,
        account: str | None = None,
        clock: Clock | None = None,
        kms_key_id: str | None = None,
        max_attempts: int = 5,
        answer_within: float = 60.0,
    ) -> None:
        if account is not None and not is_account(account):
            raise ConfigurationError(f"account={account!r} is not an AWS account's number: twelve digits, as a string.")
        if max_attempts < 1:
            raise ConfigurationError(f"max_attempts={max_attempts} allows no call at all: give 1 or more.")
        self.clock: Clock = clock or SystemClock()
        self._session = session
        self._region = region
        self._account = account
        self.kms_key_id = kms_key_id
        self.answer_within = answer_within
        self._retry = RetryPolicy(attempts=max_attempts)
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.RLock()
        self._account_lock = threading.Lock()

    def __repr__(self) -> str:
        return f"AWS(region={self._region!r}, account={self._account!r})"

    @property
    def region(self) -> str:
        """The Region that was given, else the session's.

        Raises:
            ConfigurationError: There is neither.
        """
        region = self._region or self._opened().region_name
        if not region:
            raise ConfigurationError(no_region())
        return region

    @property
    def known_account(self) -> str | None:
        """The account's number, if it was given or has been asked for already."""
        return self._account

    def account(self) -> str:
        """The account's number: given, else asked of STS once.

        Raises:
            AccessDeniedError: There are no usable credentials.
        """
        with self._account_lock:
            if self._account is None:
                self._account = self.ask_account()
            return self._account

    def ask_account(self) -> str:
        """The account's number as STS says it, whatever was given.

        Raises:
            AccessDeniedError: There are no usable credentials.
        """
        return self._retry.call(self.clock, self._ask_account_once)

    def _ask_account_once(self) -> str:
        try:
            with aws_errors("GetCallerIdentity", "your credentials"):
                answer: Any = self.client("sts").get_caller_identity()
        except ServiceError as error:
            if error.code != DAMAGED:
                raise
            raise Retryable(error) from error
        return str(answer["Account"])

    def client(self, service: str, *, region: str | None = None) -> Any:
        """A boto3 client, made once for each service and Region; safe to share between threads.

        Args:
            service: boto3's name of the service, such as `s3`.
            region: Another Region than this account's own.
        """
        key = (service, region or self.region)
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._new_client(*key)
            return self._clients[key]

    def _new_client(self, service: str, region: str) -> Any:
        from botocore.config import Config

        config = Config(
            connect_timeout=10,
            read_timeout=self.answer_within,
            retries={"mode": "standard", "total_max_attempts": 1},  # one layer retries: ours
            # What is sent to S3 carries its SHA-256 in a signed header; signing the body would hash it once more.
            s3={"payload_signing_enabled": False},
            user_agent_extra=f"nova-dpo-sdk/{__version__}",
        )
        session = cast("Any", self._opened())
        with aws_errors("CreateClient", service):
            with credential_errors("CreateClient"):
                credentials = session.get_credentials()
            with settings_errors():
                client = session.client(service, region_name=region, config=config)
        if credentials is not None:
            client.meta.events.register("before-call", partial(_load, credentials))
        install_retries(client, self._retry, self.clock)
        return client

    def _opened(self) -> boto3.Session:
        with self._lock:
            if self._session is None:
                import boto3

                with aws_errors("OpenSession", "the default profile"):
                    # AWS's own tools read AWS_REGION before anything else; boto3 does not know it.
                    region = self._region or os.environ.get("AWS_REGION") or None
                    self._session = boto3.Session(region_name=region)
            return self._session

    def session(self) -> boto3.Session:
        """The boto3 session behind every client, for an SDK that makes its own."""
        return self._opened()

    def _store(self) -> ObjectStore:
        return ObjectStore(
            self.client("s3"),
            owner=self.account(),
            region=self.region,
            clock=self.clock,
            kms_key_id=self.kms_key_id,
        )

    def check_bucket(self, uri: S3Uri) -> None:
        """Make sure that a bucket exists, belongs to this account and lies in this Region.

        Raises:
            NotFoundError: There is no such bucket.
            AccessDeniedError: The caller may not look (s3:ListBucket).
            ConfigurationError: It belongs to another account, or lies in another Region.
        """
        self._store().check_bucket(uri)

    def head(self, uri: S3Uri) -> StoredObject | None:
        """What S3 knows about an object, without its bytes; None when it is not there."""
        return self._store().head(uri)

    def read(self, uri: S3Uri, *, limit: int = READ_LIMIT) -> StoredObject:
        """Read a small object whole, of at most `limit` bytes.

        Raises:
            NotFoundError: There is no such object or bucket.
            ServiceError: It is larger than `limit`, or could not be read whole after several tries.
        """
        return self._store().read(uri, limit=limit)

    def read_or_none(self, uri: S3Uri, *, limit: int = READ_LIMIT) -> StoredObject | None:
        """Read a small object whole; None when the bucket is there and the object is not."""
        return self._store().read_or_none(uri, limit=limit)

    def stream(self, uri: S3Uri) -> AbstractContextManager[Any]:
        """An object's bytes as a file to read once from front to end, whatever its size.

        Raises:
            NotFoundError: There is no such object or bucket.
        """
        return self._store().stream(uri)

    def ranged(self, uri: S3Uri | str) -> RangedObject:
        """One object as bytes to be read in ranges, from several threads if need be.

        Raises:
            NotFoundError: There is no such object or bucket.
        """
        return _ranged.ranged(self._store(), _address(uri), self.clock)

    def find(self, uri: S3Uri | str, endings: tuple[str, ...] = ("",)) -> tuple[RangedObject, ...]:
        """The object with this address, or every object below it in the order of their keys; none when there is none.

        The bucket is looked at first: it must exist, belong to this account and lie in this Region.

        Args:
            uri: The address.
            endings: What the keys of objects below it end in, in small letters; others are passed over.

        Raises:
            NotFoundError: There is no such bucket.
            AccessDeniedError: The caller may not look (s3:ListBucket).
            ConfigurationError: `uri` is no S3 address, nor is the key of an object below it; or the bucket is another
                account's or in another Region.
        """
        uri, store = _address(uri), self._store()
        store.check_bucket(uri)
        held = store.head(uri) if uri.key and not uri.key.endswith("/") else None
        if held is not None:
            return (RangedObject(str(uri), held.size, held.etag, store, self.clock),)
        return tuple(_ranged.below(store, uri, self.clock, endings))

    def list_below(self, folder: S3Uri, ending: str = "") -> list[S3Uri]:
        """The addresses of the objects below a folder that end so, in their order; a thousand for each request.

        Raises:
            NotFoundError: There is no such bucket.
            AccessDeniedError: The caller may not look (s3:ListBucket).
        """
        return [S3Uri.parse(each.name) for each in _ranged.below(self._store(), folder, self.clock, (ending,))]

    def write(
        self,
        uri: S3Uri,
        body: bytes,
        *,
        content_type: str = "application/octet-stream",
        only_if_absent: bool = False,
        only_if_etag: str | None = None,
    ) -> str | None:
        """Store a small object, on condition if asked; see `ObjectStore.write`.

        Returns:
            The new entity tag; None when the condition did not hold.
        """
        return self._store().write(
            uri, body, content_type=content_type, only_if_absent=only_if_absent, only_if_etag=only_if_etag
        )

    def upload(
        self,
        path: Path,
        uri: S3Uri,
        *,
        sha256: str,
        size: int,
        on_progress: Callable[[int], None] | None = None,
        content_type: str = CONTENT_TYPE,
        may_finish: Callable[[], None] | None = None,
    ) -> bool:
        """Send a file to a key, unless the same bytes lie there.

        The bytes are hashed while they are read, and S3 checks every part again as it arrives. A large file under a
        key that contains its SHA-256 is resumed where an earlier try was interrupted.

        Args:
            path: The file.
            uri: The key.
            sha256: What the file must hash to, in hex: that of the bytes that were checked.
            size: How many bytes it must have.
            on_progress: Told how many bytes have newly arrived, from this thread; adds up to `size`.
            content_type: Their media type.
            may_finish: Asked before the object comes to be; what it raises is raised, and nothing is left.

        Returns:
            True when it was sent, False when the same bytes were there.

        Raises:
            DatasetError: The file cannot be read, or changed since it was checked; nothing is left under the key.
            AWSError: S3 refused or failed; nothing is left under the key.
        """
        options: Any = {"content_type": content_type, "may_finish": may_finish}
        if may_finish is not None:
            options["single_put"] = PART  # what can be held back goes in parts, so that it need not wait to begin
        return Upload(self._store(), path, uri, sha256, size, on_progress, **options).send()

    def describe_hyperpod(self, cluster: str) -> HyperPodCluster:
        """A HyperPod cluster by name or ARN.

        Raises:
            NotFoundError: There is no such cluster in this account and Region.
        """
        return _clusters.describe_hyperpod(self.client("sagemaker"), cluster)

    def describe_eks(self, name: str, region: str | None = None) -> EKSCluster:
        """An EKS cluster by name, in this Region or another.

        Raises:
            NotFoundError: There is no such cluster in this account and Region.
            ServiceError: Its certificate authority is not readable.
        """
        return _clusters.describe_eks(self.client("eks", region=region), name)

    def log_group(self, name: str) -> LogGroup:
        """A CloudWatch log group by name; asks nobody whether it exists."""
        return LogGroup(name, self.client("logs"))

    def eks_token(self, cluster_name: str) -> Token:
        """A bearer token for an EKS cluster, signed here and now without asking the network.

        Args:
            cluster_name: The EKS cluster's name (not the HyperPod cluster's).

        Raises:
            AccessDeniedError: There are no credentials, or the token is longer than EKS accepts.
        """
        with aws_errors("GetCallerIdentity", cluster_name), credential_errors("GetCallerIdentity"):
            credentials = self._opened().get_credentials()
            frozen = credentials.get_frozen_credentials() if credentials is not None else None
        if frozen is None:
            raise AccessDeniedError(
                f"A token for EKS cluster {cluster_name} needs AWS credentials and none were found. {SIGN_IN}",
                operation="GetCallerIdentity",
                target=cluster_name,
            )
        return _token.eks_token(cluster_name, region=self.region, credentials=frozen, moment=self.clock.now())


def _load(credentials: Any, model: Any, **_: Any) -> None:
    """Have credentials fetched or renewed where the errors of that are known for what they are: ahead of a call."""
    with credential_errors(model.name):
        credentials.get_frozen_credentials()


def _address(uri: S3Uri | str) -> S3Uri:
    return S3Uri.parse(uri) if isinstance(uri, str) else uri
