"""HTTPS to one endpoint whose certificate authority is given: proxies, time limits, and why no answer came."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from nova_dpo_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import urllib3

_CONNECTIONS = 10
_CHUNK = 64 * 1024
_LONGEST_LINE = 16 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read whole.

    Attributes:
        status: The HTTP status.
        headers: Its headers, by lower-case name.
        body: Its bytes, decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


_AGAIN = "Check the network, the proxy and the VPN, then try again."


class NoAnswerError(Exception):
    """No whole answer came; never seen by users.

    Attributes:
        connected: Whether the request may have reached the other side.
        may_help: Whether another try may help.
    """

    def __init__(self, message: str, *, connected: bool, may_help: bool = True) -> None:
        self.connected = connected
        self.may_help = may_help
        super().__init__(message)


class Stream:
    """An HTTP answer that is read while it comes.

    Attributes:
        status: The HTTP status.
        headers: Its headers, by lower-case name.
    """

    def __init__(self, answer: urllib3.BaseHTTPResponse, told: Callable[[Exception], NoAnswerError]) -> None:
        self.status = answer.status
        self.headers = {name.lower(): value for name, value in answer.headers.items()}
        self._answer = answer
        self._told = told

    def lines(self) -> Iterator[bytes]:
        """Every whole line as soon as it is there, without its end; a last line without an end is dropped.

        Raises:
            NoAnswerError: The connection broke, or nothing came for too long.
        """
        from urllib3.exceptions import HTTPError

        held = b""
        try:
            for chunk in self._answer.stream(_CHUNK, decode_content=True):
                *whole, held = (held + chunk).split(b"\n")
                yield from (line for line in whole if line)
                if len(held) > _LONGEST_LINE:
                    raise NoAnswerError("a line of the answer did not end.", connected=True)
        except HTTPError as error:
            raise self._told(error) from error

    def read(self) -> bytes:
        """All that is left of it.

        Raises:
            NoAnswerError: The connection broke, or nothing came for too long.
        """
        from urllib3.exceptions import HTTPError

        try:
            return self._answer.read(decode_content=True)
        except HTTPError as error:
            raise self._told(error) from error

    def close(self) -> None:
        """Give the answer up, for the thread that reads it."""
        self._answer.close()

    def interrupt(self) -> None:
        """Make whoever reads it stop; may be called from another thread."""
        connection: Any = self._answer.connection
        sock: Any = getattr(connection, "sock", None)
        with suppress(OSError):
            if sock is not None:
                # The plain method: SSLSocket's own would take the TLS state away from the thread that reads.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
                return
        # An answer after which the server closes holds the socket alone; before urllib3 2.3 nobody else can reach it.
        shutdown: Any = getattr(self._answer, "shutdown", None)
        if shutdown is not None:
            with suppress(OSError, RuntimeError, ValueError):  # the last two: it has been read to its end
                shutdown()


class Transport:
    """Sends requests to one HTTPS endpoint. Building it opens nothing; it may be shared between threads.

    Proxies come from HTTPS_PROXY, ALL_PROXY and NO_PROXY (or the system's settings), read at the first request.
    Loopback is never proxied.

    Args:
        endpoint: The URL, `https://` and no more than a path after the host.
        ca_pem: The only certificate authority that is trusted, as PEM.
        connect_timeout: Seconds until a connection must stand.
        read_timeout: Seconds without a byte after which an answer is given up.

    Raises:
        ConfigurationError: `endpoint` is not an https URL.
    """

    def __init__(self, endpoint: str, ca_pem: str, *, connect_timeout: float, read_timeout: float) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment:
            raise ConfigurationError(
                f"The Kubernetes endpoint {parts.scheme}://{parts.hostname or ''} cannot be used: it must be an "
                "https:// URL without user or query, because it is sent a secret token. EKS gives a cluster its "
                "endpoint once the cluster is ACTIVE."
            )
        self.endpoint = endpoint.rstrip("/")
        self.host: str = parts.hostname
        self._ca_pem = ca_pem
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._pools: urllib3.PoolManager | None = None
        self._lock = threading.Lock()

    def send(self, method: str, path: str, *, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Send one request once, following no redirect.

        Args:
            method: HTTP method.
            path: Path and query, beginning with a slash.
            headers: Headers to send.
            body: Bytes to send, if any.

        Raises:
            NoAnswerError: No whole answer came.
            ConfigurationError: The certificate authority or the proxy setting cannot be used.
        """
        import urllib3

        timeout = urllib3.Timeout(connect=self._connect_timeout, read=self._read_timeout)
        try:
            answer = self._opened().urlopen(
                method,
                self.endpoint + path,
                headers=dict(headers),
                body=body,
                timeout=timeout,
                retries=False,
                redirect=False,
                enforce_content_length=True,
            )
        except urllib3.exceptions.HTTPError as error:
            raise self._told(error) from error
        lowered = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, lowered, answer.data)

    def open(self, path: str, *, headers: Mapping[str, str], silence: float) -> Stream:
        """Send one GET request once, and hand over its answer while it still comes.

        Args:
            path: Path and query, beginning with a slash.
            headers: Headers to send.
            silence: Seconds without a byte after which the answer is given up.

        Raises:
            NoAnswerError: No answer began.
            ConfigurationError: The certificate authority or the proxy setting cannot be used.
        """
        import urllib3

        timeout = urllib3.Timeout(connect=self._connect_timeout, read=silence)
        try:
            answer = self._opened().urlopen(
                "GET",
                self.endpoint + path,
                headers=dict(headers),
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise self._told(error) from error
        return Stream(answer, self._told)

    def close(self) -> None:
        """Close the connections that are kept open; the next request opens new ones."""
        with self._lock:
            if self._pools is not None:
                self._pools.clear()
                self._pools = None

    def _opened(self) -> urllib3.PoolManager:
        with self._lock:
            if self._pools is None:
                self._pools = self._make_pools()
            return self._pools

    def _make_pools(self) -> urllib3.PoolManager:
        import urllib3

        options: dict[str, Any] = {"ssl_context": self._trust(), "maxsize": _CONNECTIONS}
        proxy = self._proxy()
        if not proxy:
            return urllib3.PoolManager(**options)
        parts = urlsplit(proxy)
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        headers = urllib3.make_headers(proxy_basic_auth=login)
        try:
            bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
            return urllib3.ProxyManager(bare, proxy_headers=headers, **options)
        except urllib3.exceptions.HTTPError as error:
            raise ConfigurationError(
                f"The proxy for {self.host} (from HTTPS_PROXY or ALL_PROXY) is a {parts.scheme or 'nameless'} proxy; "
                "http and https proxies can be used. Change it, or add the host to NO_PROXY."
            ) from error

    def _trust(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cadata=self._ca_pem)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigurationError(
                f"The certificate authority given for {self.host} is not PEM, so the cluster cannot be talked to "
                "safely."
            ) from error
        # Python 3.13 asks for key identifiers that the certificate authorities of EKS clusters do not carry;
        # chain, dates and host name are checked all the same.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def _proxy(self) -> str:
        if _is_loopback(self.host) or proxy_bypass(self.host):
            return ""
        proxies = getproxies()
        proxy = proxies.get("https") or proxies.get("all") or ""
        return proxy if not proxy or "://" in proxy else f"http://{proxy}"

    def _told(self, error: Exception) -> NoAnswerError:
        from urllib3 import exceptions as raised

        causes = list(_causes(error))
        untrusted = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
        if untrusted is not None:
            return NoAnswerError(
                f"the certificate of {self.host} was not accepted ({untrusted.verify_message}). Either a proxy opens "
                "TLS on the way, or the cluster was made anew and its certificate authority must be asked for again.",
                connected=False,
                may_help=False,
            )
        if any(isinstance(cause, raised.ProxyError) for cause in causes):
            return NoAnswerError(
                f"the proxy did not connect to {self.host}. Check HTTPS_PROXY, or add the host to NO_PROXY.",
                connected=False,
            )
        if any(isinstance(cause, socket.gaierror) for cause in causes):
            return NoAnswerError(
                f"the name {self.host} was not found. A cluster with a private endpoint is only known inside its VPC: "
                "connect to it (VPN, Direct Connect), or allow public access to the endpoint.",
                connected=False,
            )
        return self._told_of_connection(error, causes)

    def _told_of_connection(self, error: Exception, causes: list[BaseException]) -> NoAnswerError:
        from urllib3 import exceptions as raised

        if isinstance(error, raised.NewConnectionError):
            return NoAnswerError(
                f"{self.host} refused the connection. Check that the cluster is ACTIVE and that nothing blocks "
                "the way to its endpoint.",
                connected=False,
            )
        if isinstance(error, raised.ConnectTimeoutError):
            return NoAnswerError(
                f"{self.host} did not take a connection within {self._connect_timeout:g} s. The endpoint may be "
                "private, or its public access limited to other addresses: check the cluster's endpoint access and "
                "security groups.",
                connected=False,
            )
        if isinstance(error, raised.ReadTimeoutError):
            return NoAnswerError(f"{self.host} sent nothing for {self._read_timeout:g} s. {_AGAIN}", connected=True)
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            return NoAnswerError(f"the TLS connection to {self.host} failed.", connected=True)
        return NoAnswerError(
            f"the connection to {self.host} broke before the whole answer was there. {_AGAIN}", connected=True
        )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and everything it came from, whether as cause, as context or as an argument."""
    while error is not None:
        yield error
        inner = next((each for each in error.args if isinstance(each, BaseException)), None)
        error = error.__cause__ or error.__context__ or inner


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
