"""What the scope of a request tells the connection that it came on, and hears from it."""

from aiohttp import web


class Peer:
    """The other end of a connection. This one is not watched: what is asked of it is nothing."""

    __slots__ = ()

    @property
    def is_write_paused(self) -> bool:
        """Whether the client has yet to read what it was sent before."""
        return False

    @property
    def expects_more(self) -> bool:
        """Whether requests behind this one have arrived already."""
        return False

    def begin(self, request: web.BaseRequest) -> None:
        """A handler works on ``request`` now. Raises ``HTTPRequestHeaderFieldsTooLarge``."""

    def end(self) -> None:
        """The handler is done; its response is sent next."""

    async def writable(self) -> None:
        """Returns when the client has read enough to be sent more."""


_unwatched = Peer()


def peer_of(request: web.BaseRequest) -> Peer:
    """The client of a request, unwatched where the server or a test does not watch it."""
    if request.transport is None:
        return _unwatched
    protocol: object = request.transport.get_protocol()
    return protocol if isinstance(protocol, Peer) else _unwatched
