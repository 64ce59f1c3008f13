"""HTTP by hand: requests that an ordinary client would not send, or not at that moment."""

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from tests.support.processes import PATIENCE_SECONDS

POLL: dict[str, Any] = {"title": "Tea?", "options": [{"title": "yes"}, {"title": "no"}]}


def place(content: str = "PLAT-1", **query: str) -> str:
    """The path and query of the polls of an issue."""
    return "/rest?" + urlencode({"type": "polls", "workspace": "PLAT", "content": content, **query})


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


def _read(connection: socket.socket) -> Answer:
    response = http.client.HTTPResponse(connection)
    response.begin()
    headers = {name.title(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


class Connection:
    """A connection to a service; the test decides what is sent over it."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection(
            (address.hostname, address.port), timeout=PATIENCE_SECONDS
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def await_bytes(self, expected: bytes) -> None:
        """Fails where anything else comes first."""
        received = b""
        while len(received) < len(expected) and (more := self._socket.recv(1)):
            received += more
        assert received == expected

    @property
    def is_closed(self) -> bool:
        """Whether the other side has closed it; call it after everything was read."""
        return self._socket.recv(1) == b""

    def rest(self) -> bytes:
        """Everything until the other side closes the connection."""
        received = b""
        while more := self._socket.recv(65536):
            received += more
        return received

    def read(self) -> Answer:
        return _read(self._socket)


def request(
    method: str, path: str, *, token: str | None = None, body: Any = None, **headers: str
) -> bytes:
    """The bytes of a request; ``x_request_id="1"`` is the header ``x-request-id: 1``."""
    payload = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: test"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + payload


def chunked(data: bytes) -> bytes:
    """The same request, whose body is one chunk; ``data`` has no headers behind its length."""
    head, _, body = data.partition(b"\r\n\r\n")
    head = head.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked"
    return head + b"\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def call(url: str, method: str, path: str, **options: Any) -> Answer:
    """One request, and its answer."""
    return talk(url, request(method, path, **options))


def talk(url: str, data: bytes) -> Answer:
    """Sends the bytes as they are; the answer to them."""
    with Connection(url) as connection:
        connection.send(data)
        return connection.read()


def is_refused(url: str) -> bool:
    """Whether no connection can be made any more."""
    try:
        with Connection(url):
            return False
    except ConnectionError:
        return True
