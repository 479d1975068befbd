"""A server on loopback that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """What to answer; `drop` breaks the connection instead, `cut` leaves that many last bytes out.

    `silent` answers nothing at all until the server ends, `held` nothing more after its headers.
    """

    status: int = 200
    body: bytes | dict[str, Any] = b""
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    cut: int = 0
    silent: bool = False
    held: bool = False

    @property
    def bytes(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class ScriptedServer:
    """Answers with the replies in order, or with what `answer` says; use it in a `with`."""

    def __init__(self, *replies: Reply, answer: Callable[[Asked], Reply] | None = None) -> None:
        self.asked: list[Asked] = []
        self._replies = list(replies)
        self._answer = answer
        self._lock = threading.Lock()
        self.over = threading.Event()
        self._server = _Quiet(("127.0.0.1", 0), self._handler())

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def with_tls(self, certificate: Path, key: Path) -> ScriptedServer:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.context = context
        return self

    def __enter__(self) -> ScriptedServer:  # noqa: PYI034 - Self is not in typing before 3.11
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reply_to(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            reply = self._replies.pop(0) if self._replies else Reply(599, b"the script is over")
        return self._answer(asked) if self._answer is not None else reply

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", 0)))
                reply = script.reply_to(Asked(self.command, parts.path, query, headers, body))
                self.close_connection = True
                if reply.silent:
                    script.over.wait(10)
                    return
                if reply.drop:
                    # Linger 0 makes closing a reset.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                data = reply.bytes
                self.send_response_only(reply.status)
                for name, value in {
                    "Date": self.date_time_string(),
                    **(
                        {"Transfer-Encoding": "chunked"}
                        if reply.held
                        else {"Content-Length": str(len(data)), "Connection": "close"}
                    ),
                    **reply.headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                if reply.held:
                    script.over.wait(10)
                    return
                if self.command != "HEAD":
                    self.wfile.write(data[: len(data) - reply.cut])

            do_POST = do_GET  # noqa: N815 - the names that http.server looks for
            do_PUT = do_GET  # noqa: N815 - the same
            do_DELETE = do_GET  # noqa: N815 - the same
            do_HEAD = do_GET  # noqa: N815 - the same

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.context is not None:
            try:
                request = self.context.wrap_socket(request, server_side=True)
            except (ssl.SSLError, ConnectionError):
                return
        try:
            super().finish_request(request, client_address)
        finally:
            request.close()

    def handle_error(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Authority:
    """A certificate authority as bare as EKS makes them, and a certificate that it signed for loopback."""

    ca_pem: str
    certificate: Path
    key: Path


def make_authority(folder: Path, *, names: tuple[str, ...] = ("localhost",)) -> Authority:
    ca_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    ca = _certificate(ca_name, ca_name, ca_key.public_key(), ca_key, x509.BasicConstraints(ca=True, path_length=None))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api")])
    leaf = _certificate(subject, ca_name, key.public_key(), ca_key, x509.SubjectAlternativeName(alternatives))
    certificate_file, key_file = folder / "api.pem", folder / "api.key"
    certificate_file.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Authority(ca.public_bytes(serialization.Encoding.PEM).decode(), certificate_file, key_file)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: Any, signer: Any, extension: x509.ExtensionType
) -> x509.Certificate:
    now = dt.datetime.now(dt.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        .sign(signer, hashes.SHA256())
    )
