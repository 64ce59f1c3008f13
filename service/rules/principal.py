"""The authenticated caller of a request."""

from collections.abc import Collection
from typing import NamedTuple

from storage.documents import TokenDocument

READ, WRITE, VOTE = "read", "write", "vote"
ACTIONS = (READ, WRITE, VOTE)
ANY_WORKSPACE = "*"

SERVICE_USER = 0
"""The user id of tokens that belong to no user. No request or command may name it."""


class Principal(NamedTuple):
    """The caller of one request: a token's owner, or the user that an admin token acts for.

    ``token_id`` is the SHA-256 of the secret; ``is_acting`` tells the two kinds of caller apart.
    ``maker`` is set for the holder of a link: the principal that made it.
    """

    user_id: int
    token_id: str
    token_name: str
    is_admin: bool = False
    is_acting: bool = False
    actions: Collection[str] = frozenset()
    workspaces: Collection[str] = frozenset()
    maker: "Principal | None" = None

    @classmethod
    def of(cls, token: TokenDocument) -> "Principal":
        """The owner of a token."""
        return cls(
            user_id=token["user_id"],
            token_id=token["_id"],
            token_name=token["name"],
            is_admin=token["admin"],
            actions=token["actions"],
            workspaces=token["workspaces"],
        )

    def acting_for(self, user_id: int) -> "Principal":
        """``user_id`` in rights and authorship, with the same token."""
        return Principal(user_id, self.token_id, self.token_name, False, True, ACTIONS)

    def holder(self, actions: Collection[str]) -> "Principal":
        """The holder of a link of this principal: the same user, with no more than ``actions``.

        See ``policy.view_of``: a holder may do nothing that its maker may not, and manages nothing.
        """
        return self._replace(is_admin=False, actions=actions, maker=self)


NOBODY = Principal(-1, "", "")
"""The caller before a token was accepted; it may do nothing."""
