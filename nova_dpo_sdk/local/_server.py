"""A WSGI server on loopback: keep-alive, TLS, and a stop that leaves nothing behind."""

from __future__ import annotations

import io
import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote_to_bytes, urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

_LONGEST_LINE = 65536


class HangUp(Exception):  # noqa: N818 - a signal from an application to the server, never seen by users
    """Raised by an application to close the connection without an answer."""


class LoopbackServer:
    """Serves one WSGI application on 127.0.0.1, on a port that the system chooses.

    Werkzeug's own server closes every connection and waits 10 ms after each answer; this one keeps
    connections alive, so a client's connection pool is exercised as it would be by the real service.

    Args:
        app: The application.
        tls: Serve HTTPS with this context; plain HTTP when left out.
    """

    def __init__(self, app: WSGIApplication, tls: ssl.SSLContext | None = None) -> None:
        self.app = app
        self.tls = tls
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()
        self._stopping = False
        self._port = 0

    @property
    def port(self) -> int:
        """The port; 0 before `start()`."""
        return self._port

    @property
    def endpoint(self) -> str:
        """The server's URL."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, and answer from threads of its own."""
        self._stopping = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(
            target=self._accept, args=(self._listener,), name=f"local-cloud-{self._port}", daemon=True
        )
        self._acceptor.start()

    def stop(self) -> None:
        """Close every connection, and wait until every thread has ended."""
        if self._listener is None or self._acceptor is None:
            return
        self._stopping = True
        # Closing a listening socket does not wake its accept() everywhere; a last connection does.
        socket.create_connection(("127.0.0.1", self._port)).close()
        self._acceptor.join()
        self._listener.close()
        self._listener = None
        with self._lock:
            left = dict(self._connections)
        for connection in left.values():
            _shut(connection)
        for thread in left:
            thread.join()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            if self._stopping:
                connection.close()
                return
            thread = threading.Thread(
                target=self._converse, args=(connection,), name=f"{threading.current_thread().name}-c", daemon=True
            )
            with self._lock:
                self._connections[thread] = connection
            thread.start()

    def _converse(self, connection: socket.socket) -> None:
        try:
            if self.tls is not None:
                connection = self._handshake(connection, self.tls)
            _Handler(connection, ("127.0.0.1", 0), cast("Any", self))
        except (OSError, ValueError, HangUp) as error:
            log.debug("a connection ended: %s", type(error).__name__)
        finally:
            _shut(connection)
            connection.close()
            with self._lock:
                self._connections.pop(threading.current_thread(), None)

    def _handshake(self, connection: socket.socket, tls: ssl.SSLContext) -> socket.socket:
        secured = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._connections[threading.current_thread()] = secured
        if self._stopping:
            _shut(secured)  # whoever stops may have known only the plain one, of which nothing was left to shut
        try:
            secured.do_handshake()
        except BaseException:
            secured.close()
            raise
        return secured


def _shut(connection: socket.socket) -> None:
    try:
        # The plain method: SSLSocket's own would take the TLS state away from a thread that still reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        log.debug("a connection was closed already")


class _Handler(BaseHTTPRequestHandler):
    """One connection: parses requests, runs the application, writes its answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536
    server: Any

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(_LONGEST_LINE + 1)
        if not self.raw_requestline or len(self.raw_requestline) > _LONGEST_LINE:
            self.close_connection = True
            return
        if self.parse_request():
            self._answer()
        self.wfile.flush()

    def handle_expect_100(self) -> bool:
        result = super().handle_expect_100()
        self.wfile.flush()
        return result

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Stay silent: a request line may hold a presigned URL."""

    def _answer(self) -> None:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            del exc_info
            started[:] = [(status, headers)]
            return self.wfile.write

        environ = self._environ(self._body())
        try:
            body: Iterable[bytes] = self.server.app(environ, start_response)
        except HangUp:
            raise
        except Exception:
            # As any WSGI server: a defect in an application becomes an answer, and a record in the log.
            log.exception("the rehearsal cloud failed to answer")
            body = [b"internal error"]
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
        try:
            status, headers = started[0]
            self._write(status, headers, body)
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()

    def _write(self, status: str, headers: list[tuple[str, str]], body: Iterable[bytes]) -> None:
        code, _, phrase = status.partition(" ")
        bodiless = self.command == "HEAD" or code in {"204", "304"}
        known = any(name.lower() == "content-length" for name, _ in headers)
        chunked = False
        self.send_response_only(int(code), phrase)
        for name, value in headers:
            self.send_header(name, value)
        if not known and not bodiless:
            if isinstance(body, (list, tuple)):
                self.send_header("Content-Length", str(sum(len(part) for part in body)))
            else:
                chunked = True
                self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if chunked:
            self.wfile.flush()  # as an API server's watch: whoever asked knows at once that it stands
        if not bodiless:
            self._write_body(body, chunked=chunked)

    def _write_body(self, body: Iterable[bytes], *, chunked: bool) -> None:
        for part in body:
            if part and chunked:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.flush()
            elif part:
                self.wfile.write(part)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return b"".join(self._chunks())
        promised = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(promised)
        if len(body) < promised:
            raise HangUp  # the client broke off: what came must not pass for the whole
        return body

    def _chunks(self) -> Iterable[bytes]:
        while True:
            size = int(self.rfile.readline(_LONGEST_LINE).split(b";")[0], 16)
            chunk = self.rfile.read(size)
            self.rfile.readline(_LONGEST_LINE)
            if not size:
                return
            yield chunk

    def _environ(self, body: bytes) -> dict[str, Any]:
        url = urlsplit("http://x" + self.path if self.path.startswith("/") else self.path)
        environ: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https" if self.server.tls else "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "SCRIPT_NAME": "",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": unquote_to_bytes(url.path).decode("latin-1"),
            "QUERY_STRING": url.query,
            "REQUEST_URI": self.path,
            "RAW_URI": self.path,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(self.server.port),
            "SERVER_PROTOCOL": self.request_version,
            "REMOTE_ADDR": "127.0.0.1",
        }
        for name, value in self.headers.items():
            key = name.upper().replace("-", "_")
            key = key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        environ["CONTENT_LENGTH"] = str(len(body))
        return environ
