"""The authenticated caller of a request."""

from collections.abc import Collection
from typing import NamedTuple

from schemas.actions import ACT, ACTIONS, ANY, READ, VOTE, WRITE
from storage.documents import SERVICE_USER, Course, TokenDocument, UserId

__all__ = ["ACT", "ACTIONS", "ANY", "READ", "SERVICE_USER", "VOTE", "WRITE", "Principal"]


class Principal(NamedTuple):
    """The caller of one request: a token's owner, or the user that a token acts for.

    ``token_id`` is the SHA-256 of the secret; ``is_acting`` tells the two kinds of caller apart.
    ``courses`` are those that the token may act in, None for all, everywhere, as admins may.
    ``polls`` are the ids of all that the token reaches, or empty where it is not bound to polls.
    ``maker`` is set for the holder of a link: the principal that made it. ``owner_id`` is the
    token's own user where it acts for another.
    """

    user_id: UserId
    token_id: str
    token_name: str
    is_admin: bool = False
    is_acting: bool = False
    actions: Collection[str] = frozenset()
    workspaces: Collection[str] = frozenset()
    courses: Collection[Course] | None = None
    polls: Collection[str] = ()
    maker: "Principal | None" = None
    owner_id: UserId | None = None

    @property
    def is_limited(self) -> bool:
        """Acts for a user, within the token's workspaces and courses only."""
        return self.is_acting and self.courses is not None

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
            courses=None if token["admin"] else token.get("courses", ()),
            polls=token.get("polls", ()),
        )

    def acting_for(self, user_id: UserId) -> "Principal":
        """``user_id`` in rights and authorship, with the same token and within its limits."""
        if self.is_admin:
            return Principal(
                user_id,
                self.token_id,
                self.token_name,
                is_acting=True,
                actions=ACTIONS,
                owner_id=self.user_id,
            )
        actions = [action for action in self.actions if action != ACT]
        return self._replace(
            user_id=user_id, is_acting=True, actions=actions, owner_id=self.user_id
        )

    def holder(self, actions: Collection[str]) -> "Principal":
        """The holder of a link of this principal: the same user, with no more than ``actions``.

        See ``policy.view_of``: a holder may do nothing that its maker may not, and manages nothing.
        """
        return self._replace(is_admin=False, actions=actions, maker=self)


NOBODY = Principal(-1, "", "")
"""The caller before a token was accepted; it may do nothing."""
