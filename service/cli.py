"""The command line: ``python -m service``."""

import argparse
import secrets
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from aiohttp import web

from schemas.fields import parse_id, parse_rfc3339
from service.app import ROUTES, create_app
from service.openapi.document import document
from service.rules.principal import ACTIONS, ANY_WORKSPACE, SERVICE_USER
from service.server.runner import run, serve
from service.server.supervisor import run as run_workers
from service.settings import MAX_WORKERS, InvalidSetting, Settings, read_settings
from service.telemetry.log import configure_logging
from service.web.store import STORE
from storage.documents import USERS, TokenDocument, utc_now
from storage.errors import StartupRefused, StorageError
from storage.opening import open_store
from storage.store import Store

REFUSED = 1
MISUSED = 2
INTERRUPTED = 130
TOKEN_COLUMNS = ("NAME", "USER", "STATE", "ADMIN", "ACTIONS", "WORKSPACES", "CREATED", "EXPIRES")

DESCRIPTION = """\
Polls attached to content, run in sessions, counted exactly.

Settings come from the environment; the README lists them. Without MONGODB_URI the store is an
embedded one in POLLS_DATA_DIR (./data), and the commands reach it also while the service runs.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    The exit status is 0, 1 where it was refused, 2 where it was misused, 130 after Ctrl-C.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        settings = read_settings()
        configure_logging(settings.log_level)
        command = options.run if "run" in options else _serve
        run(command(settings, options), settings.event_loop)
    except KeyboardInterrupt:
        return INTERRUPTED
    except InvalidSetting as error:
        print(f"polls: {error}", file=sys.stderr)
        return MISUSED
    except (Differs, StartupRefused, StorageError, OSError) as error:
        print(f"polls: {error}", file=sys.stderr)
        return REFUSED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve HTTP; what happens without a command too")
    serve.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="so many processes on one port and one store; POLLS_WORKERS, or 1, unless given",
    )
    serve.set_defaults(run=_serve)

    token = commands.add_parser("token", help="create, list and revoke access tokens")
    token_commands = token.add_subparsers(title="commands", metavar="COMMAND", required=True)

    create = token_commands.add_parser(
        "create",
        help="create a token and print its secret, once",
        description="Creates a token and prints its secret, alone, on standard output. The secret "
        "is shown this once: only its SHA-256 is stored.",
    )
    create.add_argument("--name", required=True, type=_name, help="unique among live tokens")
    create.add_argument(
        "--user",
        required=True,
        type=_user,
        metavar="ID",
        help="the user whose token it is: a whole number from 1",
    )
    create.add_argument(
        "--admin",
        action="store_true",
        help="may do everything, and act for other users with as_user_id",
    )
    create.add_argument(
        "--workspace",
        action="append",
        default=[],
        type=_workspace,
        metavar="W",
        help="a workspace of /rest that it covers, or '*' for all; may be repeated; none unless "
        "given, which is enough for /api/v1",
    )
    create.add_argument(
        "--action",
        action="append",
        choices=ACTIONS,
        metavar="A",
        help=f"what it may do: {', '.join(ACTIONS)}; may be repeated; all three unless given",
    )
    create.add_argument(
        "--expires",
        type=_moment,
        metavar="T",
        help="when it stops working, as 2027-01-31T18:00:00+01:00; never unless given",
    )
    create.set_defaults(run=_create_token)

    listing = token_commands.add_parser("list", help="list all tokens, without their secrets")
    listing.set_defaults(run=_list_tokens)

    revoke = token_commands.add_parser(
        "revoke", help="end a token; it stops working within 5 seconds in every process"
    )
    revoke.add_argument("name", metavar="NAME", help="the name of a live token")
    revoke.set_defaults(run=_revoke_token)

    recount = commands.add_parser(
        "recount",
        help="compare the results of every session with its ballots",
        description="Compares the results of every session with its ballots and names those that "
        "differ. Exit status 1 where any did.",
    )
    recount.add_argument(
        "--fix", action="store_true", help="make the results say what the ballots do"
    )
    recount.set_defaults(run=_recount)
    openapi = commands.add_parser(
        "openapi",
        help="print the OpenAPI document",
        description="Prints the OpenAPI 3.1 document that the service has at /openapi.json.",
    )
    openapi.set_defaults(run=_print_document)
    return parser


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"a number of workers is from 1 to {MAX_WORKERS}")
    return int(text)


def _name(text: str) -> str:
    if not 1 <= len(text) <= 100 or not text.isprintable():
        raise argparse.ArgumentTypeError("a name has 1 to 100 printable characters")
    return text


def _user(text: str) -> int:
    user_id = parse_id(text)
    if user_id is None:
        raise argparse.ArgumentTypeError("a user is a whole number from 1 to 2^53-1")
    return user_id


def _workspace(text: str) -> str:
    if not 1 <= len(text) <= 255 or not text.isprintable():
        raise argparse.ArgumentTypeError("a workspace has 1 to 255 printable characters")
    if text == USERS:
        raise argparse.ArgumentTypeError("no token covers the workspace of users' own polls")
    return text


def _moment(text: str) -> datetime:
    moment = parse_rfc3339(text)
    if moment is None:
        raise argparse.ArgumentTypeError("write it as 2027-01-31T18:00:00+01:00")
    return moment


async def _serve(settings: Settings, options: argparse.Namespace) -> None:
    where = ""

    async def introduce(store: Store) -> None:
        nonlocal where
        where = store.description
        await _print_first_token(store, settings)

    def announce(url: str) -> None:
        print(f"Store: {where}", flush=True)
        print(f"Serving on {url}", flush=True)

    if workers := getattr(options, "workers", None):
        settings = replace(settings, workers=workers)
    if settings.workers > 1:
        await run_workers(settings, introduce, announce)
        return
    app = create_app(settings)

    async def introduce_app(app: web.Application) -> None:
        await introduce(app[STORE])

    app.on_startup.append(introduce_app)
    await serve(app, announce)


async def _print_first_token(store: Store, settings: Settings) -> None:
    """Nobody could do anything with an empty store of one's own, so its first start gives a key."""
    if settings.mongodb_uri is None and settings.admin_token is None and await store.is_empty():
        secret = _new_secret()
        await store.tokens.create(
            secret,
            name="admin",
            user_id=SERVICE_USER,
            admin=True,
            workspaces=[ANY_WORKSPACE],
            actions=ACTIONS,
            now=utc_now(),
        )
        print(f"Admin token, shown this once: {secret}", flush=True)


async def _create_token(settings: Settings, options: argparse.Namespace) -> None:
    secret = _new_secret()
    async with open_store(settings.location, holder="command") as store:
        await store.tokens.create(
            secret,
            name=options.name,
            user_id=options.user,
            admin=options.admin,
            workspaces=options.workspace,
            actions=options.action or ACTIONS,
            expires_at=options.expires,
            now=utc_now(),
        )
    print(secret)


async def _list_tokens(settings: Settings, _: argparse.Namespace) -> None:
    async with open_store(settings.location, holder="command") as store:
        tokens = await store.tokens.all()
    now = utc_now()
    rows = [TOKEN_COLUMNS, *(_row(token, now) for token in tokens)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(TOKEN_COLUMNS))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _row(token: TokenDocument, now: datetime) -> tuple[str, ...]:
    expires_at = token["expires_at"]
    state = "live"
    if token["revoked_at"] is not None:
        state = "revoked"
    elif expires_at is not None and expires_at <= now:
        state = "expired"
    return (
        token["name"],
        str(token["user_id"]),
        state,
        "yes" if token["admin"] else "no",
        ",".join(token["actions"]),
        ",".join(token["workspaces"]) or "-",
        _shown(token["created_at"]),
        _shown(expires_at) if expires_at else "-",
    )


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _revoke_token(settings: Settings, options: argparse.Namespace) -> None:
    async with open_store(settings.location, holder="command") as store:
        await store.tokens.revoke(options.name, utc_now())


class Differs(Exception):
    """A recount found sessions whose results were not those of their ballots."""


async def _recount(settings: Settings, options: argparse.Namespace) -> None:
    is_watched = sys.stderr.isatty()
    differing = done = 0
    async with open_store(settings.location, holder="command") as store:
        total = await store.recounts.total()
        async for recount in store.recounts.run(fix=options.fix):
            done += 1
            if is_watched:
                print(f"\r{done} of {total} sessions", end="", file=sys.stderr, flush=True)
            if not recount.agrees:
                differing += 1
                print(
                    f"session {recount.session_id}: says {recount.results} of "
                    f"{recount.participants}, its ballots {recount.counted} of {recount.ballots}"
                )
    if is_watched:
        print(file=sys.stderr)
    if differing:
        raise Differs(f"{differing} of {done} sessions differed from their ballots")


def _new_secret() -> str:
    """256 random bits; the prefix lets scanners for leaked secrets know it."""
    return f"polls_{secrets.token_urlsafe(32)}"


async def _print_document(_: Settings, __: argparse.Namespace) -> None:
    print(document(ROUTES).decode())
