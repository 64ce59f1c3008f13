"""Who may do what. Pure: knows neither HTTP nor MongoDB.

Each ``require_…`` raises ``Forbidden`` or returns; the rules are the contract's, sections 2 and 3.
"""

from service.principal import ANY_WORKSPACE, READ, VOTE, WRITE, Principal
from storage.documents import ContainerKey, PollDocument

USERS = "users"
"""The workspace of the polls that users made under ``/api/v1``; its contents are user ids."""


class Forbidden(Exception):
    """The caller may not do this; the text says what is lacking."""


def require_acting(principal: Principal) -> None:
    """Only an admin token may speak for another user."""
    if not principal.is_admin:
        raise Forbidden("as_user_id is for admin tokens.")


def require_content(principal: Principal, action: str, key: ContainerKey) -> None:
    """``action`` on a container of the content API.

    No grant covers the workspace of users, ``*`` included: it is for each user alone. Who acts for
    a user holds that user's rights: ``read`` and ``vote`` everywhere, ``write`` as far as
    ``require_change`` allows.
    """
    if principal.is_admin:
        return
    if action not in principal.actions:
        raise Forbidden(f"This token does not carry the action {action}.")
    if key.workspace == USERS:
        if key.content != str(principal.user_id):
            raise Forbidden("These polls are for the user who made them.")
    elif not principal.is_acting and not principal.workspaces & {key.workspace, ANY_WORKSPACE}:
        raise Forbidden(f"This token does not cover the workspace {key.workspace}.")


def require_creation(principal: Principal, key: ContainerKey) -> None:
    """``write`` on the container; nobody puts polls among those made under ``/api/v1``."""
    require_content(principal, WRITE, key)
    if key.workspace == USERS:
        raise Forbidden("Polls of users are made under /api/v1/polls.")


def require_change(principal: Principal, poll: PollDocument) -> None:
    """To be asked after ``require_content``: a user who is acted for changes own polls only."""
    if principal.is_acting and poll["owner_id"] != principal.user_id:
        raise Forbidden("This poll was made by another user.")


__all__ = [
    "READ",
    "USERS",
    "VOTE",
    "WRITE",
    "Forbidden",
    "require_acting",
    "require_change",
    "require_content",
    "require_creation",
]
