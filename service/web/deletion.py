"""How long a deleted poll can be restored."""

from datetime import timedelta

from aiohttp import web

from service.settings import SETTINGS


def restorable_for(request: web.Request, *, now: bool) -> timedelta:
    """Not at all if it is to be purged ``now``, else as long as the service is set to."""
    return timedelta() if now else request.app[SETTINGS].restorable_for
