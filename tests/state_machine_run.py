"""Runs an exported state machine on moto's interpreter of the States Language, against the rehearsal cloud.

moto carries out Pass, Choice, Wait, Parallel, Retry, Catch, the intrinsics, most of `aws-sdk:*` and `lambda:invoke`.
It does not know `eks:call` nor `sagemaker:createTrainingJob.sync`, and gives `aws-sdk:s3:getObject` no text. These
three become Lambda functions, which a bridge runs: it does what Step Functions would do, with its errors.
"""

from __future__ import annotations

import base64
import copy
import itertools
import json
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import urllib3
from botocore.exceptions import ClientError

from nova_dpo_sdk.export import read_manifest

if TYPE_CHECKING:
    from typing_extensions import Self

    from nova_dpo_sdk.local import LocalCloud

Json = dict[str, Any]
LONGEST = 6000
"""Looks at an execution, ten milliseconds apart and more, before it is given up."""
LOOK = 120
"""Seconds that the cloud's clock goes on with each look, so that none depends on how fast this machine is."""
ABSENT = 3600
"""The same after a look at an object that is not there, as the machine's many further looks are cut to two."""
READER = "arn:aws:lambda:us-east-1:123456789012:function:read-manifest"
ROLE = "arn:aws:iam::123456789012:role/machine"
_NUMBERS = itertools.count(1)
_FUNCTION = re.compile(r"/2015-03-31/functions/([^/]+)/invocations")


_BRIDGED = {
    "eks:call": "eks-call",
    "sagemaker:createTrainingJob.sync": "train",
    "aws-sdk:s3:getObject": "get-object",
}


class FunctionError(Exception):
    """What a service integration fails with: the name that Catch and Retry look for, and a cause."""


class Bridge:
    """Stands before the cloud's AWS: answers Lambda itself and hands on everything else."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.calls: list[str] = []
        self.failures: dict[str, str] = {}
        """Errors to come, each once, by the method of the call."""
        self._pool = urllib3.PoolManager(retries=False)
        bridge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, text = bridge.answer(self.command, self.path, dict(self.headers), body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_HEAD = answer  # noqa: N815 - the names are http.server's

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._pool.clear()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        function = _FUNCTION.match(path)
        if function is None:
            told = self._pool.request(method, self.cloud.aws_endpoint + path, body=body, headers=headers)
            kept = {
                k: v
                for k, v in told.headers.items()
                if k.lower() not in ("content-length", "connection", "date", "server")
            }
            return told.status, kept, told.data
        try:
            return 200, {}, json.dumps(self._run(function[1], json.loads(body)), default=str).encode()
        except FunctionError as error:
            name, cause = error.args
            failed = {"errorType": name, "errorMessage": cause}
            return 200, {"X-Amz-Function-Error": "Unhandled"}, json.dumps(failed).encode()

    def _run(self, function: str, event: Json) -> Json:
        if function == "eks-call":
            return self._eks_call(event)
        if function == "train":
            return self._train(event)
        if function == "get-object":
            return self._get_object(event)
        self.calls.append("read manifest")
        return read_manifest.handler(event, None, s3=self.cloud.session().client("s3"))

    def _eks_call(self, event: Json) -> Json:
        assert event["ClusterName"] == self.cloud.eks_name
        self.calls.append(f"{event['Method']} {event['Path']}")
        name = self.failures.pop(event["Method"], None)
        if name is not None:
            raise FunctionError(name, "as the test wished")
        trust = ssl.create_default_context(cadata=base64.b64decode(event["CertificateAuthority"]).decode())
        query = "&".join(
            f"{key}={value}" for key, values in event.get("QueryParameters", {}).items() for value in values
        )
        with urllib3.PoolManager(ssl_context=trust, retries=False) as pool:
            answer = pool.request(
                event["Method"],
                f"{event['Endpoint']}{event['Path']}{'?' if query else ''}{query}",
                body=json.dumps(event["RequestBody"]).encode() if "RequestBody" in event else None,
                headers={"Authorization": f"Bearer {self.cloud.kubernetes_token()}"},
            )
        told = {"ResponseBody": json.loads(answer.data), "StatusCode": answer.status, "StatusText": answer.reason or ""}
        if answer.status >= 300:
            raise FunctionError(f"EKS.{answer.status}", json.dumps(told))
        if event["Method"] == "GET":
            self.cloud.clock.sleep(LOOK)
        return told

    def _get_object(self, event: Json) -> Json:
        try:
            held = self.cloud.session().client("s3").get_object(**event)
        except ClientError as error:
            self.cloud.clock.sleep(ABSENT)
            raise FunctionError(f"S3.{error.response['Error']['Code']}Exception", str(error)) from error
        self.cloud.clock.sleep(LOOK)
        return {"Body": held["Body"].read().decode(), "LastModified": f"{held['LastModified']:%Y-%m-%dT%H:%M:%SZ}"}

    def _train(self, event: Json) -> Json:
        client: Any = self.cloud.session().client("sagemaker")
        self.calls.append(f"train {event['TrainingJobName']}")
        try:
            client.create_training_job(**event)
        except ClientError as error:
            raise FunctionError(f"SageMaker.{error.response['Error']['Code']}Exception", str(error)) from error
        while (told := client.describe_training_job(TrainingJobName=event["TrainingJobName"]))["TrainingJobStatus"] in (
            "InProgress",
            "Stopping",
        ):
            self.cloud.clock.sleep(1)
        if told["TrainingJobStatus"] == "Failed":
            raise FunctionError("States.TaskFailed", json.dumps(told, default=str))
        return told


def for_moto(definition: Json) -> Json:
    """The same machine in words that moto can carry out, without its waiting times."""
    made = copy.deepcopy(definition)
    for scope in _scopes(made):
        for state in scope.values():
            _one(state)
    return made


def _scopes(machine: Json) -> list[Json]:
    inner = [
        scope for state in machine["States"].values() for each in state.get("Branches", ()) for scope in _scopes(each)
    ]
    return [machine["States"], *inner]


def _one(state: Json) -> None:
    resource = state.get("Resource", "").removeprefix("arn:aws:states:::")
    if state["Type"] == "Wait":
        state["Seconds"] = 0
    for each in state.get("Retry", ()):
        if "IntervalSeconds" in each:
            each.update(IntervalSeconds=1, BackoffRate=1.0, MaxAttempts=2)
    if resource == "aws-sdk:eks:describeCluster":  # Step Functions capitalises names of fields; moto leaves them
        state["Parameters"] = {"name.$": state["Parameters"]["Name.$"]}
        state["ResultSelector"] = {"url.$": "$.cluster.endpoint", "ca.$": "$.cluster.certificateAuthority.data"}
    elif resource in _BRIDGED:
        state["Resource"] = "arn:aws:states:::lambda:invoke"
        state["Parameters"] = {"FunctionName": _BRIDGED[resource], "Payload": state["Parameters"]}
        if "ResultSelector" in state:
            chosen = state["ResultSelector"].items()
            state["ResultSelector"] = {key: re.sub(r"(^|\()\$\.(\w)", r"\1$.Payload.\2", path) for key, path in chosen}


class Execution:
    """One execution, run to its end; the cloud's clock goes on with each look that it takes."""

    def __init__(self, cloud: LocalCloud, definition: Json) -> None:
        client: Any = cloud.session().client("stepfunctions")
        name = f"machine-{next(_NUMBERS)}"  # moto keeps machines for as long as the process lives
        made = client.create_state_machine(name=name, definition=json.dumps(for_moto(definition)), roleArn=ROLE)
        arn = client.start_execution(stateMachineArn=made["stateMachineArn"], input="{}")["executionArn"]
        pause = threading.Event()
        looks = itertools.count()
        while (told := client.describe_execution(executionArn=arn))["status"] == "RUNNING":
            assert next(looks) < LONGEST, "the execution does not end"
            pause.wait(0.01)  # the machine runs in moto's own thread, in real time
        self.status: str = told["status"]
        self.error: str = told.get("error", "")
        self.cause: str = told.get("cause", "")
        self.output: Json = json.loads(told.get("output") or "{}")
        history = client.get_execution_history(executionArn=arn, maxResults=1000)["events"]
        self.states = [e["stateEnteredEventDetails"]["name"] for e in history if "stateEnteredEventDetails" in e]
        self.events = len(history)
