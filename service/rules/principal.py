"""The authenticated caller of a request."""

from typing import NamedTuple

from storage.documents import Token

READ, WRITE, VOTE = "read", "write", "vote"
ACTIONS = (READ, WRITE, VOTE)
ALL_ACTIONS = frozenset(ACTIONS)
ANY_WORKSPACE = "*"

SERVICE_USER = 0
"""The user id of tokens that belong to no user. No request or command may name it."""


class Principal(NamedTuple):
    """The caller of one request: a token's owner, or the user that an admin token acts for.

    ``token_id`` is the SHA-256 of the secret; ``is_acting`` tells the two kinds of caller apart.
    """

    user_id: int
    token_id: str
    token_name: str
    is_admin: bool = False
    is_acting: bool = False
    actions: frozenset[str] = frozenset()
    workspaces: frozenset[str] = frozenset()

    @classmethod
    def of(cls, token: Token) -> "Principal":
        """The owner of a token."""
        return cls(
            token.user_id,
            token.id,
            token.name,
            token.is_admin,
            False,
            token.actions,
            token.workspaces,
        )

    def acting_for(self, user_id: int) -> "Principal":
        """``user_id`` in rights and authorship, with the same token."""
        return Principal(user_id, self.token_id, self.token_name, False, True, ALL_ACTIONS)


NOBODY = Principal(-1, "", "")
"""The caller before a token was accepted; it may do nothing."""
