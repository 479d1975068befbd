"""The way to a rehearsal cloud: endpoints, credentials and the clients made from them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from nova_dpo_sdk._time import SystemClock

from ._token import LOCAL_KEYS, sign_token

if TYPE_CHECKING:
    from nova_dpo_sdk._time import Clock
    from nova_dpo_sdk.backends.hyperpod import HyperPodBackend
    from nova_dpo_sdk.backends.training_jobs import TrainingJobBackend

    from ._session import LocalSession


@dataclass(frozen=True)
class LocalConnection:
    """What it takes to reach a rehearsal cloud, from its own process or from another.

    Attributes:
        aws_endpoint: URL of the AWS front.
        kubernetes_endpoint: URL of the Kubernetes API.
        ca_pem: PEM of the authority that signed the Kubernetes API's certificate.
        region: The Region.
        account: The account.
        cluster_name: The HyperPod cluster's name.
        eks_name: The EKS cluster's name.
        namespace: The first of the cluster's namespaces for jobs.
        output: S3 URI for the output of runs.
        clock: The clock that tokens and backends follow; never part of `to_dict`.
    """

    aws_endpoint: str
    kubernetes_endpoint: str
    ca_pem: str = field(repr=False)
    region: str
    account: str
    cluster_name: str
    eks_name: str
    namespace: str
    output: str
    clock: Clock = field(default_factory=SystemClock, repr=False, compare=False)

    def to_dict(self) -> dict[str, str]:
        """The connection as JSON values, for `LocalCloud.attach` in another process."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "clock"}

    def session(self) -> LocalSession:
        """A boto3 session that reaches this cloud only, whatever the user's environment says."""
        from ._session import LocalSession

        return LocalSession(self.aws_endpoint, self.region, LOCAL_KEYS)

    def kubernetes_token(self) -> str:
        """A bearer token for the Kubernetes API, signed now."""
        return sign_token(LOCAL_KEYS, cluster=self.eks_name, region=self.region, now=self.clock.now())

    def hyperpod(self, **options: Any) -> HyperPodBackend:
        """A HyperPod backend on this cloud's cluster.

        Args:
            options: Arguments of `HyperPodBackend` that replace or add to the cloud's own.

        Returns:
            The real backend, with this cloud's session and clock.
        """
        from nova_dpo_sdk.backends.hyperpod import HyperPodBackend

        own: dict[str, Any] = {
            "cluster": self.cluster_name,
            "namespace": self.namespace,
            "instance_type": "ml.p5.48xlarge",
            "session": self.session(),
            "region": self.region,
            "clock": self.clock,
        }
        return HyperPodBackend(**(own | options))

    def training_jobs(self, **options: Any) -> TrainingJobBackend:
        """A backend of SageMaker Training Jobs on this cloud.

        Args:
            options: Arguments of `TrainingJobBackend` that replace or add to the cloud's own.

        Returns:
            The real backend, with this cloud's session and clock.
        """
        from nova_dpo_sdk.backends.training_jobs import TrainingJobBackend

        own: dict[str, Any] = {
            "role": f"arn:aws:iam::{self.account}:role/nova-execution",
            "session": self.session(),
            "region": self.region,
            "clock": self.clock,
        }
        return TrainingJobBackend(**(own | options))
