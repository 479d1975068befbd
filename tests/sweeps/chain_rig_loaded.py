"""Everything that a child of a sweep needs, loaded and warm: it is forked from a process that has imported this."""

from __future__ import annotations

import chain_rig  # noqa: F401 - loads the package
import moto.s3.models  # noqa: F401 - what LocalCloud.attach needs not, and its imports do

from nova_dpo_sdk._time import FakeClock
from nova_dpo_sdk.local import LocalCloud

_NOWHERE = {
    "aws_endpoint": "http://127.0.0.1:9",
    "kubernetes_endpoint": "https://127.0.0.1:9",
    "ca_pem": "",
    "region": "us-east-1",
    "account": "123456789012",
    "cluster_name": "c",
    "eks_name": "c",
    "namespace": "kubeflow",
    "output": "s3://nowhere/runs",
}
_backend = LocalCloud.attach(_NOWHERE, FakeClock()).hyperpod()
for _service in ("s3", "sts", "sagemaker", "eks"):
    _backend.aws.client(_service)
