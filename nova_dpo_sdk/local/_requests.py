"""What was asked of the rehearsal cloud: operations and targets, never headers, tokens or bodies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """One request that the cloud has answered, or is about to.

    Attributes:
        service: `s3`, `sts`, `sagemaker`, `eks` or `kubernetes`.
        operation: An AWS operation such as `PutObject`, or a Kubernetes verb such as `create`.
        target: An S3 URI, a cluster's name, or `pytorchjobs/kubeflow/<name>`; empty when there is none.
    """

    service: str
    operation: str
    target: str = ""
