"""The rehearsal cloud's AWS: a WSGI front that answers what moto lacks, and leaves the rest to moto."""

from __future__ import annotations

import base64
import json
from functools import cache
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any

from ._aws_protocol import AWSCall, AWSRefusal, read_call, write_refusal
from ._faults import half
from ._requests import Request
from ._server import HangUp

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from ._faults import Fault, Faults
    from ._logs import LocalLogs
    from ._machines import Cluster
    from ._s3 import S3Rules
    from ._training_front import TrainingFront

_Answer = tuple[str, list[tuple[str, str]], bytes]


class AWSFront:
    """Answers for the cluster and its log group itself, holds S3 to its rules, and asks moto for the rest.

    Args:
        cluster: The cluster that exists.
        s3: S3's rules.
        logs: The cluster's log group.
        training: The training jobs, and what a client asks around them.
        account: The account of the caller.
        eks: Gives the endpoint and the CA's PEM of the Kubernetes API.
        lock: Held while a request is answered: so two conditional writes never both succeed.
        now: Tells the time.
        advance: Called before each answer, so that the trainer catches up with the time.
        faults: Faults that are planned.
        log: Takes down every request.
    """

    def __init__(
        self,
        cluster: Cluster,
        s3: S3Rules,
        logs: LocalLogs,
        training: TrainingFront,
        *,
        account: str,
        eks: Callable[[], tuple[str, str]],
        lock: threading.RLock,
        now: Callable[[], datetime],
        advance: Callable[[], None],
        faults: Faults,
        log: Callable[[Request], None],
    ) -> None:
        self._cluster = cluster
        self._s3 = s3
        self._logs = logs
        self._training = training
        self._account = account
        self._eks = eks
        self._lock = lock
        self._now = now
        self._advance = advance
        self._faults = faults
        self._log = log
        self._moto: WSGIApplication | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        body: bytes = environ["wsgi.input"].read()
        environ["wsgi.input"] = BytesIO(body)
        call = read_call(environ, body)
        request = Request(call.service, call.operation, call.target)
        self._log(request)
        status, headers, answer = self._answer(call, request, environ, body)
        cut = self._faults.takes_half(request, answer if environ["REQUEST_METHOD"] != "HEAD" else b"")
        start_response(status, _whole_length(headers, answer) if cut else headers)
        return half(answer) if cut else [answer]

    def load(self) -> None:
        """Load moto, which takes longer than everything else here."""
        self._moto = _moto()

    def _answer(self, call: AWSCall, request: Request, environ: WSGIEnvironment, body: bytes) -> _Answer:
        fault = self._faults.strike(request, after=False)
        if fault is not None and fault.delay:
            self._faults.wait(fault)
        elif fault is not None:
            return _struck(fault, call)
        with self._lock:
            self._advance()
            try:
                answer = self._carry_out(call, environ, body)
            except AWSRefusal as refusal:
                answer = write_refusal(call, refusal)
        fault = self._faults.strike(request, after=True)
        return answer if fault is None else _struck(fault, call)

    def _carry_out(self, call: AWSCall, environ: WSGIEnvironment, body: bytes) -> _Answer:
        if (call.service, call.operation) == ("sagemaker", "DescribeCluster"):
            return _json(self._describe_hyperpod(call))
        if (call.service, call.operation) == ("eks", "DescribeCluster"):
            return _json(self._describe_eks(call))
        about_logs = self._logs.answer(call.operation, body) if call.service == "logs" else None
        if about_logs is not None:
            return _json(about_logs)
        about_jobs = self._training.answer(call, body)
        if about_jobs is not None:
            return _plain(*about_jobs)
        if call.service != "s3":
            return self._ask_moto(environ)
        headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
            for name, value in environ.items()
            if name.startswith(("HTTP_", "CONTENT_"))
        }
        self._s3.check(call, headers, body)
        _name_checksum(environ)
        answer = self._ask_moto(environ)
        self._s3.note(call, int(answer[0].split()[0]), self._now())
        return answer

    def _ask_moto(self, environ: WSGIEnvironment) -> _Answer:
        if self._moto is None:
            raise RuntimeError("the front was asked before it was loaded")
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self._account
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            del exc_info
            started[:] = [(status, headers)]
            return None

        chunks = self._moto(environ, start_response)
        try:
            body = b"".join(chunks)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        return (*started[0], body)

    def _describe_hyperpod(self, call: AWSCall) -> dict[str, Any]:
        if call.region != self._cluster.region or call.target not in {self._cluster.name, self._cluster.arn}:
            raise AWSRefusal(400, "ResourceNotFound", f"Cluster with name {call.target} not found")
        return self._cluster.described()

    def _describe_eks(self, call: AWSCall) -> dict[str, Any]:
        if call.region != self._cluster.region or call.target != self._cluster.eks_name:
            message = f"No cluster found for name: {call.target}."
            raise AWSRefusal(404, "ResourceNotFoundException", message)
        endpoint, ca_pem = self._eks()
        return {
            "cluster": {
                "name": self._cluster.eks_name,
                "arn": self._cluster.eks_arn,
                "version": "1.33",
                "status": self._cluster.eks_status,
                "endpoint": endpoint,
                "certificateAuthority": {"data": base64.b64encode(ca_pem.encode()).decode()},
            }
        }


@cache
def _moto() -> WSGIApplication:
    """One for all clouds: it holds nothing but the routes of each service, which take long to be put together.

    What moto keeps, it keeps for the whole process in any case.
    """
    from moto.moto_server.werkzeug_app import (  # pyright: ignore[reportMissingTypeStubs] - typed, without py.typed
        DomainDispatcherApplication,
        create_backend_app,
    )

    return DomainDispatcherApplication(create_backend_app)


def _name_checksum(environ: WSGIEnvironment) -> None:
    """Name the algorithm beside a checksum that was sent: S3 keeps the checksum either way, moto only then."""
    for algorithm in ("SHA256", "SHA1", "CRC32", "CRC32C", "CRC64NVME"):
        if f"HTTP_X_AMZ_CHECKSUM_{algorithm}" in environ:
            environ["HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM"] = algorithm


def _struck(fault: Fault, call: AWSCall) -> _Answer:
    if fault.answer is None:
        raise HangUp
    given = fault.answer
    return write_refusal(call, AWSRefusal(given.status, given.code, given.message, given.headers))


def _whole_length(headers: list[tuple[str, str]], body: bytes) -> list[tuple[str, str]]:
    kept = [each for each in headers if each[0].lower() != "content-length"]
    return [*kept, ("Content-Length", str(len(body)))]


def _json(body: dict[str, Any]) -> _Answer:
    return _plain("application/json", json.dumps(body).encode())


def _plain(media: str, body: bytes) -> _Answer:
    return f"200 {HTTPStatus.OK.phrase}", [("Content-Type", media), ("x-amzn-RequestId", "local")], body
