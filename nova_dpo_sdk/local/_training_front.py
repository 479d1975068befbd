"""The AWS services around a training job, as far as a client asks them: SageMaker, logs, IAM, quotas, registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote
from xml.sax.saxutils import escape

from ._aws_protocol import AWSCall, AWSRefusal

if TYPE_CHECKING:
    from ._training_jobs import LocalTrainingJobs
    from ._training_output import TrainingLogs

Json = dict[str, Any]

_JSON, _XML = "application/x-amz-json-1.1", "text/xml"
_OFFERED = (
    "ml.p5.48xlarge",
    "ml.p5e.48xlarge",
    "ml.p5en.48xlarge",
    "ml.p4d.24xlarge",
    "ml.p4de.24xlarge",
    "ml.g5.12xlarge",
    "ml.g5.48xlarge",
    "ml.g6.12xlarge",
    "ml.g6.48xlarge",
)
_UNRELATED = 120


class TrainingFront:
    """Answers what moto lacks, or answers otherwise than AWS does.

    Args:
        jobs: The training jobs.
        logs: Their log group.
    """

    def __init__(self, jobs: LocalTrainingJobs, logs: TrainingLogs) -> None:
        self._jobs = jobs
        self._logs = logs

    def answer(self, call: AWSCall, body: bytes) -> tuple[str, bytes] | None:
        """Media type and body of an answer; None for a request that is for somebody else.

        Raises:
            AWSRefusal: As AWS words it.
        """
        if call.service == "iam":
            return self._iam(call.operation, parse_qs(body.decode()))
        answer: Json | None = None
        if call.service == "sagemaker":
            answer = self._jobs.answer(call.operation, call.region, body)
        elif call.service == "logs":
            answer = self._logs.answer(call.operation, body)
        elif call.operation == "ListServiceQuotas":
            answer = self._quotas(json.loads(body))
        elif (call.service, call.operation) == ("ecr", "DescribeImages"):
            answer = self._images(json.loads(body))
        return None if answer is None else (_JSON, json.dumps(answer).encode())

    def _iam(self, operation: str, form: dict[str, list[str]]) -> tuple[str, bytes] | None:
        if operation == "GetRole":
            return _XML, self._role(form["RoleName"][0])
        if operation == "SimulatePrincipalPolicy":
            if self._jobs.may_pass is None:
                raise AWSRefusal(403, "AccessDenied", "not authorized to perform: iam:SimulatePrincipalPolicy")
            return _XML, _simulated(form, allowed=self._jobs.may_pass)
        return None

    def _role(self, name: str) -> bytes:
        arn = next((each for each in self._jobs.roles if each.rpartition("/")[2] == name), None)
        if arn is None:
            raise AWSRefusal(404, "NoSuchEntity", f"The role with name {name} cannot be found.")
        service = "sagemaker" if self._jobs.roles[arn] else "ec2"
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
            ],
        }
        return _wrapped(
            "GetRole",
            f"<Role><Path>/</Path><RoleName>{escape(name)}</RoleName><RoleId>AROALOCAL0000000LOCAL</RoleId>"
            f"<Arn>{escape(arn)}</Arn><CreateDate>2025-01-01T00:00:00Z</CreateDate>"
            f"<AssumeRolePolicyDocument>{quote(json.dumps(trust))}</AssumeRolePolicyDocument></Role>",
        )

    def _quotas(self, given: Json) -> Json:
        unrelated = [{"QuotaName": f"ml.other.{n}xlarge for endpoint usage", "Value": 2.0} for n in range(_UNRELATED)]
        ours = [
            {"QuotaName": f"{name} for training job usage", "Value": self._jobs.quota(name)}
            for name in dict.fromkeys((*_OFFERED, *self._jobs.quotas))
        ]
        listed = [{"ServiceCode": "sagemaker", "Adjustable": True, **each} for each in (*unrelated, *ours)]
        start = int(given.get("NextToken") or 0)
        end = start + int(given.get("MaxResults") or 100)
        return {"Quotas": listed[start:end], **({"NextToken": str(end)} if end < len(listed) else {})}

    def _images(self, given: Json) -> Json:
        if not self._jobs.images:
            message = "not authorized to perform: ecr:DescribeImages on a repository of another account"
            raise AWSRefusal(400, "AccessDeniedException", message)
        if given.get("repositoryName") != "nova-fine-tune-repo":
            message = f"The repository with name '{given.get('repositoryName')}' does not exist in the registry"
            raise AWSRefusal(400, "RepositoryNotFoundException", message)
        return {"imageDetails": [{"registryId": given.get("registryId"), "imageTags": ["latest"]}]}


def _simulated(form: dict[str, list[str]], *, allowed: bool) -> bytes:
    decision = "allowed" if allowed else "implicitDeny"
    resource = form.get("ResourceArns.member.1", ["*"])[0]
    actions = [value[0] for key, value in form.items() if key.startswith("ActionNames.member.")]
    results = "".join(
        f"<member><EvalActionName>{escape(action)}</EvalActionName>"
        f"<EvalResourceName>{escape(resource)}</EvalResourceName><EvalDecision>{decision}</EvalDecision></member>"
        for action in actions
    )
    return _wrapped(
        "SimulatePrincipalPolicy",
        f"<EvaluationResults>{results}</EvaluationResults><IsTruncated>false</IsTruncated>",
    )


def _wrapped(operation: str, inside: str) -> bytes:
    space = "https://iam.amazonaws.com/doc/2010-05-08/"
    return (
        f'<{operation}Response xmlns="{space}"><{operation}Result>{inside}</{operation}Result>'
        f"<ResponseMetadata><RequestId>local</RequestId></ResponseMetadata></{operation}Response>"
    ).encode()
