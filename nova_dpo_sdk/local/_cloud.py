"""The rehearsal cloud: an AWS account and a HyperPod cluster on loopback."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._time import SystemClock
from nova_dpo_sdk.aws import S3Uri
from nova_dpo_sdk.errors import ConfigurationError

from ._agenda import Agenda, Script
from ._api_faults import API_FAULTS, script_api_fault
from ._aws import AWSFront
from ._buckets import Buckets
from ._connection import LocalConnection
from ._container import NovaContainer
from ._extra import require_local
from ._faults import Faults
from ._job_faults import JOB_FAULTS
from ._kubernetes import KubernetesAPI, mapped
from ._logs import LocalLogs
from ._machines import Cluster, InstanceGroup, default_groups
from ._narration import Narrator
from ._random_faults import draw_faults
from ._roles import Role, role_of
from ._s3 import S3Rules
from ._server import LoopbackServer
from ._store import ObjectStore
from ._token import LOCAL_KEYS
from ._trainer import furnish, wind_up
from ._training_front import TrainingFront
from ._training_jobs import LocalTrainingJobs
from ._training_output import TrainingLogs, TrainingOutput
from ._watch import History

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from typing_extensions import Self

    from nova_dpo_sdk._time import Clock
    from nova_dpo_sdk.backends.hyperpod import HyperPodBackend
    from nova_dpo_sdk.backends.training_jobs import TrainingJobBackend

    from ._requests import Request
    from ._session import LocalSession


class LocalCloud:
    """An AWS account with a HyperPod cluster, rehearsed on 127.0.0.1.

    The SDK's own client code talks to it over real sockets: S3, STS, SageMaker and EKS through moto, the
    Kubernetes API over TLS with real token checks, and a trainer that plays operator and Nova container. No thread
    moves it: its state is a function of the clock, brought up to date before each answer.

    Several clouds may run in one process, with names of their own for `bucket` and `account`. Bucket names, and in
    one account everything that moto keeps beside buckets, are shared by the whole process; do not combine it with
    moto's `mock_aws` in the same process.

    Args:
        clock: The clock; the machine's own when left out. With a `FakeClock` a job lasts no time at all.
        region: The Region that everything is in.
        account: The account's twelve digits.
        cluster: The HyperPod cluster's name.
        namespaces: The cluster's namespaces for jobs; the first is the backend's.
        instance_groups: The cluster's instance groups; restricted groups of p5, p5en, p4d and g5 when left out.
        bucket: The customer's bucket.
        script: How long the acts of a job take.
        role: What the caller may do in the cluster: a name from `ROLES`, or a `Role`.

    Raises:
        ConfigurationError: The account is not twelve digits, there is no namespace, or the bucket's name or the role
            cannot be.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        region: str = "us-east-1",
        account: str = "123456789012",
        cluster: str = "research",
        namespaces: Sequence[str] = ("kubeflow",),
        instance_groups: Sequence[InstanceGroup] | None = None,
        bucket: str = "acme-nova",
        script: Script | None = None,
        role: str | Role = "administrator",
    ) -> None:
        if not re.fullmatch(r"\d{12}", account) or not namespaces:
            raise ConfigurationError("A LocalCloud needs an account of twelve digits and at least one namespace.")
        self.clock: Clock = clock or SystemClock()
        self.bucket = S3Uri(bucket, "runs").bucket
        self.namespaces = tuple(namespaces)
        self.script = script or Script()
        self.requests: list[Request] = []
        """Every request so far, in order."""
        self.faults = Faults()
        """Faults to come."""
        groups = default_groups() if instance_groups is None else list(instance_groups)
        self.cluster = Cluster(cluster, region, account, groups)
        """The hardware; its status and its groups may be changed while it runs."""
        self.store = ObjectStore()
        """The objects of the Kubernetes API."""
        self._lock = threading.RLock()
        self._buckets = Buckets()
        nova = NovaContainer(self._buckets, region=region, account=account, escrow=self.cluster.escrow)
        self.logs = LocalLogs(self.cluster, self.clock.now)
        """The cluster's log group; `logs.late(90)` lets lines arrive late."""
        self._narrator = Narrator(self.store, self.logs)
        self.trainer = wind_up(self.store, Agenda(), self.script, nova, self._narrator)
        """Operator, scheduler, kubelets and garbage collector."""
        self.history = History(self.store)
        """What changed in the cluster, for watches."""
        self.training_logs = TrainingLogs(self.cluster, self.clock.now)
        """The log group of all training jobs; `training_logs.late(90)` lets lines arrive late."""
        self.training = self._training()
        """The training jobs: their quotas and roles, and failures to come, such as `training.capacity_error()`."""
        self._access = mapped(LOCAL_KEYS, cluster=self.cluster.eks_name, account=account, role=role)
        self._eks_endpoint = ""
        self._running: tuple[LocalConnection, LoopbackServer, LoopbackServer] | None = None
        self._used = False

    @staticmethod
    def attach(connection: dict[str, str], clock: Clock | None = None) -> LocalConnection:
        """Reach a cloud that runs in another process.

        Args:
            connection: What that cloud's `connection().to_dict()` gave.
            clock: The clock to follow; it should tell the same time as the cloud's.

        Returns:
            A connection with `session()`, `hyperpod()` and `output`.

        Raises:
            ConfigurationError: `connection` is something else.
        """
        try:
            return LocalConnection(**connection, clock=clock or SystemClock())
        except TypeError as error:
            raise ConfigurationError(
                f"connection is a {type(connection).__name__} that tells no cloud. Pass what connection().to_dict() "
                "gave, such as json.loads(Path('cloud.json').read_text())."
            ) from error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Make buckets, nodes and namespaces, and listen on two ports of 127.0.0.1.

        Raises:
            ConfigurationError: It was started before, another cloud of this process has the bucket's name, or the
                extra `local` is not installed.
        """
        if self._used:
            raise ConfigurationError("This LocalCloud was started before; each one runs once. Make a new one.")
        self._used = True
        require_local()
        from ._certificates import make_certificates

        certificates = make_certificates()
        front = self._front(certificates.ca_pem)
        front.load()
        try:
            self._furnish()
        except BaseException:
            self._buckets.remove_all()
            raise
        aws, kubernetes = LoopbackServer(front), LoopbackServer(self._api(), certificates.server)
        aws.start()
        kubernetes.start()
        self._eks_endpoint = kubernetes.endpoint
        self._running = self._connect(aws, kubernetes, certificates.ca_pem), aws, kubernetes

    def stop(self) -> None:
        """Close every socket, end every thread, and remove the cloud's buckets; once is enough."""
        if self._running is None:
            return
        _, aws, kubernetes = self._running
        self._running = None
        self.history.close()
        self.faults.close()
        aws.stop()
        kubernetes.stop()
        self._buckets.remove_all()

    def connection(self) -> LocalConnection:
        """What it takes to reach this cloud.

        Raises:
            ConfigurationError: It does not run.
        """
        if self._running is None:
            raise ConfigurationError("This LocalCloud does not run: use it in a `with` block, or call start().")
        return self._running[0]

    @property
    def region(self) -> str:
        """The Region."""
        return self.cluster.region

    @property
    def account(self) -> str:
        """The account's twelve digits."""
        return self.cluster.account

    @property
    def cluster_name(self) -> str:
        """The HyperPod cluster's name."""
        return self.cluster.name

    @property
    def eks_name(self) -> str:
        """The EKS cluster's name."""
        return self.cluster.eks_name

    @property
    def output(self) -> str:
        """S3 URI for the output of runs."""
        return f"s3://{self.bucket}/runs"

    @property
    def aws_endpoint(self) -> str:
        """URL of the AWS front."""
        return self.connection().aws_endpoint

    @property
    def kubernetes_endpoint(self) -> str:
        """URL of the Kubernetes API."""
        return self.connection().kubernetes_endpoint

    @property
    def ca_pem(self) -> str:
        """PEM of the authority that signed the Kubernetes API's certificate."""
        return self.connection().ca_pem

    @property
    def role(self) -> Role:
        """What the caller may do in the cluster; may be set to a name from `ROLES`, or to a `Role`."""
        return self._access.role

    @role.setter
    def role(self, role: str | Role) -> None:
        self._access.role = role_of(role)

    def session(self) -> LocalSession:
        """A boto3 session that reaches this cloud only, whatever the user's environment says."""
        return self.connection().session()

    def kubernetes_token(self) -> str:
        """A bearer token for the Kubernetes API, signed now."""
        return self.connection().kubernetes_token()

    def hyperpod(self, **options: Any) -> HyperPodBackend:
        """A HyperPod backend on this cloud's cluster; `options` replace or add to the cloud's own arguments."""
        return self.connection().hyperpod(**options)

    def training_jobs(self, **options: Any) -> TrainingJobBackend:
        """A backend of training jobs on this cloud; `options` replace or add to the cloud's own arguments."""
        return self.connection().training_jobs(**options)

    def add_bucket(self, name: str, *, region: str | None = None, account: str | None = None) -> None:
        """Make one more bucket, in another Region or account if so asked.

        Raises:
            ConfigurationError: The cloud does not run, or the name is taken in this process.
        """
        self.connection()
        self._buckets.create(name, region=region or self.region, account=account or self.account)

    def script_fault(
        self,
        name: str,
        *,
        job: str = "*",
        after: float = 5.0,
        lasts: float | None = None,
        times: int | None = None,
        message: str = "",
    ) -> None:
        """Let something go wrong, in one line: with jobs (`JOB_FAULTS`) or with the API (`API_FAULTS`).

        Args:
            name: Which fault.
            job: Pattern of the names of the jobs that it meets, such as `support-*`.
            after: Seconds from a job's start until it begins, for `preempted` and `node-loss`.
            lasts: Seconds until it is over; never when left out, or a minute where it must end. For `slow`: how long
                an answer takes, in real seconds.
            times: How often it strikes: each job for crashes, requests for faults of the API.
            message: What the container says when it crashes.

        Raises:
            ConfigurationError: No fault has this name.
        """
        if name in API_FAULTS:
            script_api_fault(self.faults, self.history, self._access, name, times=times or 1, lasts=lasts or 1.0)
            return
        if name not in JOB_FAULTS:
            raise ConfigurationError(f"No fault is called {name!r}; there are {', '.join([*JOB_FAULTS, *API_FAULTS])}.")
        with self._lock:
            self.trainer.faults.plan(name, job=job, after=after, lasts=lasts, times=times, message=message)

    def script_random_faults(self, seed: int, *, job: str = "*", count: int = 3) -> list[str]:
        """Let some things go wrong that mend themselves, chosen by a seed: the same seed gives the same bad day.

        Args:
            seed: What is drawn by.
            job: Pattern of the names of the jobs that are met.
            count: How many faults.

        Returns:
            Each fault as the call of `script_fault` that plans it.
        """
        drawn = draw_faults(seed, count)
        for name, options in drawn:
            self.script_fault(name, job=job, **options)
        return [
            f"script_fault({', '.join([repr(name), f'job={job!r}', *(f'{k}={v!r}' for k, v in options.items())])})"
            for name, options in drawn
        ]

    def advance(self) -> None:
        """Bring the cluster up to the present moment, as every request does."""
        with self._lock:
            self.trainer.advance(self.clock.now())

    def _training(self) -> LocalTrainingJobs:
        region, account, escrow = self.region, self.account, self.cluster.training_escrow
        return LocalTrainingJobs(
            region,
            account,
            agenda=self.trainer.agenda,
            script=self.script,
            container=NovaContainer(self._buckets, region=region, account=account, escrow=escrow),
            output=TrainingOutput(self._buckets, escrow, self.training_logs),
            now=self.clock.now,
        )

    def _furnish(self) -> None:
        now = self.clock.now()
        self._buckets.create(self.bucket, region=self.region, account=self.account)
        for escrow in (self.cluster.escrow, self.cluster.training_escrow):
            self._buckets.create(escrow, region=self.region, account=self.account)
        furnish(self.store, self.cluster, self.namespaces, now)

    def _front(self, ca_pem: str) -> AWSFront:
        return AWSFront(
            self.cluster,
            S3Rules(
                self._buckets,
                self.account,
                self.cluster.escrow,
                self.cluster.training_escrow,
                locked=self.trainer.faults.is_locked,
            ),
            self.logs,
            TrainingFront(self.training, self.training_logs),
            account=self.account,
            eks=lambda: (self._eks_endpoint, ca_pem),  # also told to who was held up until the cloud stops
            lock=self._lock,
            now=self.clock.now,
            advance=self.advance,
            faults=self.faults,
            log=self.requests.append,
        )

    def _api(self) -> KubernetesAPI:
        return KubernetesAPI(
            self.store,
            self._access,
            lock=self._lock,
            now=self.clock.now,
            advance=self.advance,
            faults=self.faults,
            history=self.history,
            admit=self.trainer.faults.admit,
            pod_log=self._narrator.pod_log,
            log=self.requests.append,
        )

    def _connect(self, aws: LoopbackServer, kubernetes: LoopbackServer, ca_pem: str) -> LocalConnection:
        return LocalConnection(
            aws_endpoint=aws.endpoint,
            kubernetes_endpoint=kubernetes.endpoint,
            ca_pem=ca_pem,
            region=self.region,
            account=self.account,
            cluster_name=self.cluster_name,
            eks_name=self.eks_name,
            namespace=self.namespaces[0],
            output=self.output,
            clock=self.clock,
        )
