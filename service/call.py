"""What is known of the request that is being answered."""

from collections.abc import Mapping

from service.principal import NOBODY, Principal

NO_HEADERS: Mapping[str, str] = {}


class Call:
    """One for each request, made by its scope and completed on its way.

    ``query`` has all parameters in order; ``principal`` is nobody until the token is found. Where
    ``is_anonymous`` the line in the log tells of no user; ``quota_headers`` go with the answer.
    """

    __slots__ = ("id", "is_anonymous", "principal", "query", "quota_headers")

    def __init__(self, request_id: str) -> None:
        self.id = request_id
        self.query: list[tuple[str, str]] = []
        self.principal: Principal = NOBODY
        self.is_anonymous = False
        self.quota_headers = NO_HEADERS
