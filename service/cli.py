"""The command line: ``python -m service``."""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import structlog
from marshmallow import ValidationError

from schemas.actions import ALL_ACTIONS
from schemas.fields import USER_MESSAGE, parse_rfc3339, parse_user_id
from schemas.tokens import (
    COURSE_MESSAGE,
    POLL_MESSAGE,
    parse_course,
    parse_poll,
    require_effect,
)
from service.app import create_app, document
from service.rules.principal import ACTIONS, ANY, SERVICE_USER
from service.rules.views import time
from service.server.runner import run, serve
from service.server.supervisor import run as run_workers
from service.settings import MAX_WORKERS, InvalidSetting, Settings, read_settings
from service.telemetry.log import configure_logging
from service.telemetry.output import open_descriptors, protect_outputs, show
from service.web.store_key import STORE
from storage.audit import Actor
from storage.documents import USERS, TokenDocument, has_passed, utc_now
from storage.errors import StartupRefused, StorageError
from storage.startup import open_store
from storage.store import Store
from storage.tokens import new_secret

log = structlog.get_logger(__name__)

REFUSED = 1
MISUSED = 2
INTERRUPTED = 130
TOKEN_COLUMNS = (
    *("NAME", "USER", "STATE", "ADMIN", "ACTIONS", "WORKSPACES", "COURSES", "POLLS"),
    *("CREATED", "EXPIRES"),
)
FLAGS = {
    "actions": "--action",
    "workspaces": "--workspace",
    "courses": "--course",
    "polls": "--poll",
}
"""By the member of a token that they set."""

DESCRIPTION = """\
Polls attached to content, run in sessions, counted exactly.

Settings are environment variables, listed in docs/settings.md. Without MONGODB_URI the store is an
embedded one in POLLS_DATA_DIR (./data). Commands work on it while the service runs, too.
"""

Value = TypeVar("Value")


def _argument(parse: Callable[[str], Value | None], rule: str) -> Callable[[str], Value]:
    """An argparse type; ``rule`` is the message where ``parse`` returns None."""

    def read(text: str) -> Value:
        if (value := parse(text)) is None:
            raise argparse.ArgumentTypeError(rule)
        return value

    return read


def _printable(text: str, most: int) -> str | None:
    return text if 1 <= len(text) <= most and text.isprintable() else None


def _parse_workers(text: str) -> int | None:
    return int(text) if text.isdecimal() and 1 <= int(text) <= MAX_WORKERS else None


def _parse_workspace(text: str) -> str | None:
    """No token covers the workspace of users' own polls."""
    return _printable(text, most=255) if text != USERS else None


WORKERS = _argument(_parse_workers, f"must be a whole number from 1 to {MAX_WORKERS}")
NAME = _argument(partial(_printable, most=100), "must have 1 to 100 printable characters")
USER = _argument(parse_user_id, USER_MESSAGE)
WORKSPACE = _argument(
    _parse_workspace, f"must have 1 to 255 printable characters, and not be {USERS}"
)
COURSE = _argument(parse_course, COURSE_MESSAGE)
POLL = _argument(parse_poll, POLL_MESSAGE)
EXPIRY = _argument(parse_rfc3339, "must be a time such as 2027-01-31T18:00:00+01:00")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    The exit status is 0; 1 if the command failed or was refused; 2 for wrong usage or an invalid
    setting; 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    open_descriptors()
    try:
        settings = read_settings()
        if options.run is _serve:
            protect_outputs()
        configure_logging(settings.log_level)
        run(options.run(settings, options), settings.event_loop)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except (InvalidSetting, Misused) as error:
        print(f"polls: {error}", file=sys.stderr)
        return MISUSED
    except (Differs, StartupRefused, StorageError, OSError) as error:
        print(f"polls: {_sentence(error)}", file=sys.stderr)
        _drop_output()
        return REFUSED
    return 0


def _sentence(error: Exception) -> str:
    """What an error says, without the number that errors of the system begin with."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"


def _drop_output() -> None:
    """What could not be written would be tried again at the exit, and change its status."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class Misused(Exception):
    """Arguments that cannot be used together, or not any more."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_serve, workers=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    serve = _command(commands, "serve", _serve, "serve HTTP (the default command)")
    text = "number of processes, on one port and one store; default: POLLS_WORKERS, or 1"
    serve.add_argument("--workers", type=WORKERS, metavar="N", help=text)

    token = commands.add_parser("token", help="create, list and revoke access tokens")
    tokens = token.add_subparsers(title="commands", metavar="COMMAND", required=True)
    text = "create a token and print its secret, which is not stored and cannot be shown again"
    create = _command(tokens, "create", _create_token, text)
    create.add_argument("--name", required=True, type=NAME, help="unique among live tokens")
    text = (
        "the user that the token belongs to: a whole number from 1, or a string of up to 128 "
        "printable characters"
    )
    create.add_argument("--user", required=True, type=USER, metavar="ID", help=text)
    text = (
        "allow everything, and acting for other users with as_user_id; not to be combined with "
        "what would limit it"
    )
    create.add_argument("--admin", action="store_true", help=text)
    text = (
        "a workspace of /rest that the token covers, or '*' for all; repeatable; default: none, "
        "which is enough for /api/v1"
    )
    create.add_argument(
        "--workspace", action="append", default=[], type=WORKSPACE, metavar="W", help=text
    )
    text = (
        f"an allowed action: {', '.join(ALL_ACTIONS)}; repeatable; default: {', '.join(ACTIONS)}; "
        "act is as_user_id, within the workspaces and courses of the token"
    )
    create.add_argument("--action", action="append", choices=ALL_ACTIONS, metavar="A", help=text)
    text = "a course in which the token may act for users, or '*' for all; repeatable"
    create.add_argument(
        "--course", action="append", default=[], type=COURSE, metavar="ID", help=text
    )
    text = "a poll that the token is bound to, by its UUID; repeatable; default: not bound"
    create.add_argument("--poll", action="append", default=[], type=POLL, metavar="ID", help=text)
    text = "when the token expires, such as 2027-01-31T18:00:00+01:00; default: never"
    create.add_argument("--expires", type=EXPIRY, metavar="T", help=text)
    _command(tokens, "list", _list_tokens, "list all tokens, without their secrets")
    text = "revoke a token, which every process then refuses within 5 seconds"
    revoke = _command(tokens, "revoke", _revoke_token, text)
    revoke.add_argument("name", metavar="NAME", help="the name of a live token")

    text = "compare the results of every session with its ballots; exit status 1 if any differ"
    recount = _command(commands, "recount", _recount, text)
    recount.add_argument("--fix", action="store_true", help="correct the results that differ")
    _command(commands, "openapi", _print_document, "print the OpenAPI 3.1 document")
    return parser


def _command(
    commands: Any, name: str, run: Callable[..., Awaitable[None]], text: str
) -> argparse.ArgumentParser:
    description = f"{text[0].upper()}{text[1:]}."
    command: argparse.ArgumentParser
    command = commands.add_parser(name, help=text, description=description)
    command.set_defaults(run=run)
    return command


async def _serve(settings: Settings, options: argparse.Namespace) -> None:
    if options.workers:
        settings = replace(settings, workers=options.workers)
    if settings.workers > 1:
        await run_workers(settings, partial(_announce, settings))
        return
    app = create_app(settings)
    await serve(app, lambda url: _announce(settings, app[STORE], url))


async def _announce(settings: Settings, store: Store, url: str) -> None:
    """Says where the service listens; to be called when it does.

    Without any token nobody could use a new embedded store, so the first start creates one. A start
    that fails, or whose output nobody can read, creates none: it would be lost.
    """
    if settings.mongodb_uri is None and settings.admin_token is None and await store.is_empty():
        secret = new_secret()
        if await asyncio.to_thread(show, f"Admin token, shown this once: {secret}"):
            await store.tokens.create(
                secret,
                name="admin",
                user_id=SERVICE_USER,
                now=utc_now(),
                admin=True,
                workspaces=[ANY],
                actions=ACTIONS,
                actor=_actor(),
            )
        else:
            log.warning(
                "no admin token created", reason="standard output, which would show it, is lost"
            )
    lines = [f"Store: {store.description}", f"Serving on {url}", f"API documentation: {url}/docs"]
    print("\n".join(lines), flush=True)


async def _create_token(settings: Settings, options: argparse.Namespace) -> None:
    limits = {
        "actions": options.action,
        "workspaces": options.workspace,
        "courses": options.course,
        "polls": options.poll,
    }
    _require_effect({"admin": options.admin, **limits})
    if has_passed(options.expires, utc_now()):
        raise Misused("--expires must be in the future.")
    if sys.stdout is None:
        raise OSError("Standard output is closed, so no token was created: nobody would see it.")
    secret = new_secret()
    async with open_store(settings.location, holder="command") as store:
        if store.is_new:
            print(f"polls: created a new store: {store.description}", file=sys.stderr)
        await store.tokens.create(
            secret,
            now=utc_now(),
            name=options.name,
            user_id=options.user,
            admin=options.admin,
            **{**limits, "actions": options.action or ACTIONS},
            expires_at=options.expires,
            actor=_actor(),
        )
        try:
            print(secret, flush=True)
        except OSError as error:
            await store.tokens.revoke(options.name, utc_now(), actor=_actor())
            raise OSError(
                f"Cannot write to standard output: {os.strerror(error.errno or 0).lower()}. The "
                "token, which nobody has seen, was revoked."
            ) from error


def _actor() -> Actor:
    """A command, for the audit: it needs no token."""
    return Actor(SERVICE_USER, None, utc_now())


def _require_effect(token: Mapping[str, Any]) -> None:
    try:
        require_effect(token)
    except ValidationError as error:
        raise Misused(f"{FLAGS[error.field_name]} {error.messages[0]}.") from error


def _existing_store(settings: Settings) -> AbstractAsyncContextManager[Store]:
    """Not for commands that add something: a wrong setting must not look like an empty store."""
    return open_store(settings.location, holder="command", may_create=False)


async def _list_tokens(settings: Settings, _: argparse.Namespace) -> None:
    async with _existing_store(settings) as store:
        tokens = await store.tokens.all()
    now = utc_now()
    rows = [TOKEN_COLUMNS, *(_row(token, now) for token in tokens)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


def _row(token: TokenDocument, now: datetime) -> tuple[str, ...]:
    expires_at = token["expires_at"]
    state = "live"
    if token["revoked_at"] is not None:
        state = "revoked"
    elif has_passed(expires_at, now):
        state = "expired"
    return (
        token["name"],
        str(token["user_id"]),
        state,
        "yes" if token["admin"] else "no",
        ",".join(token["actions"]),
        ANY if token["admin"] else ",".join(token["workspaces"]) or "-",
        ANY if token["admin"] else ",".join(map(str, token.get("courses", ()))) or "-",
        ",".join(token.get("polls", ())) or "-",
        time(token["created_at"]),
        time(expires_at) if expires_at else "-",
    )


async def _revoke_token(settings: Settings, options: argparse.Namespace) -> None:
    async with _existing_store(settings) as store:
        await store.tokens.revoke(options.name, utc_now(), actor=_actor())


class Differs(Exception):
    """A recount found sessions whose results differ from their ballots."""


async def _recount(settings: Settings, options: argparse.Namespace) -> None:
    is_watched = sys.stderr.isatty()
    differing = done = ballots = 0
    async with _existing_store(settings) as store:
        print(f"Store: {store.description}", flush=True)
        total = await store.recounts.total()
        async for recount in store.recounts.run(fix=options.fix):
            done += 1
            ballots += recount.ballots
            if is_watched:
                print(f"\r{done} of {total} sessions", end="", file=sys.stderr, flush=True)
            if not recount.agrees:
                differing += 1
                print(
                    f"session {recount.session_id}: results {recount.results} of "
                    f"{recount.participants}, counted {recount.counted} of {recount.ballots}"
                )
    if is_watched:
        print(file=sys.stderr)
    print(f"Sessions: {done}. Ballots: {ballots}. Differences: {differing}.")
    if differing:
        raise Differs(f"{differing} of {done} sessions differed from their ballots")


async def _print_document(settings: Settings, _: argparse.Namespace) -> None:
    print(document(settings.public_url or f"http://{settings.host}:{settings.port}").decode())
