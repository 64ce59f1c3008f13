"""The results of a session as a file: CSV for spreadsheets, JSON for programs.

If names are not saved, an export has counts but no submissions, so it cannot tell who voted what.
The caller's own submission is treated like all others, because files are passed on.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson
from aiohttp import web
from marshmallow import ValidationError

from service.polling.responses import accepted_ids
from service.polling.spreadsheets import cell, quoted
from service.rules import views
from service.web.call import CALL
from storage.documents import BallotDocument
from storage.exports import Export

COLUMNS = (
    *("record", "id", "poll_choice_id", "text", "count", "percentage"),
    *("user_id", "created_at", "comment"),
)
BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}".encode()
"""Without it, Excel reads the file in a regional encoding instead of UTF-8."""


async def _csv(_: web.Request, export: Export) -> AsyncGenerator[bytes, None]:
    before = BYTE_ORDER_MARK + _lines([dict(zip(COLUMNS, COLUMNS, strict=True))])
    before += _lines(_counts(export))
    if _saves_names(export):
        async for ballots in export.ballots:
            yield before + _lines(map(_record, _submissions(export, ballots)))
            before = b""
    if before:
        yield before


async def _json(request: web.Request, export: Export) -> AsyncGenerator[bytes, None]:
    def encode(data: Any) -> bytes:
        return orjson.dumps(accepted_ids(request, data))

    head = {
        "poll": {"id": export.poll["number"], "question": export.poll["title"]},
        "poll_session": views.exported_session(export.session),
        "poll_choices": views.counted_choices(export.poll, export.session),
    }
    before = encode(head)[:-1] + b',"poll_submissions":'
    if not _saves_names(export):
        yield before + b"null}"
        return
    before += b"["
    async for ballots in export.ballots:
        yield before + encode(_submissions(export, ballots))[1:-1]
        before = b","
    yield b"]}" if before == b"," else before + b"]}"


class Format(NamedTuple):
    """An export format.

    ``render`` yields the pieces of the file, the first only when the first ballots were read.
    """

    name: str
    media_type: str
    render: Callable[[web.Request, Export], AsyncGenerator[bytes, None]]

    def headers(self, export: Export) -> dict[str, str]:
        session = export.session
        name = f"poll-{session['poll_number']}-session-{session['_id']}.{self.name}"
        return {
            "Content-Type": self.media_type,
            "Content-Disposition": f'attachment; filename="{name}"',
        }


FORMATS = {
    "csv": Format("csv", "text/csv; charset=utf-8; header=present", _csv),
    "json": Format("json", "application/json; charset=utf-8", _json),
}


def read_format(request: web.Request) -> Format:
    """The format named in the query; raises ``ValidationError``."""
    name = dict(request[CALL].query).get("format")
    if name is None:
        raise ValidationError("is missing from the query", "format")
    if name not in FORMATS:
        raise ValidationError(f"must be {' or '.join(FORMATS)}", "format")
    return FORMATS[name]


def _saves_names(export: Export) -> bool:
    """Whether submissions can be shown; nor can they where only their counts are kept."""
    is_named = export.session["rules"]["settings"]["saveParticipantNames"]
    return is_named and not export.session.get("counts_only", False)


def _submissions(export: Export, ballots: Sequence[BallotDocument]) -> list[dict[str, Any]]:
    rules = export.session["rules"]
    return [views.submission(ballot, rules, author_id=None) for ballot in ballots]


def _counts(export: Export) -> Iterator[dict[str, Any]]:
    """The record of the session, then one for each choice."""
    session = export.session
    yield {
        "record": "session",
        "id": session["_id"],
        "text": export.poll["title"],
        "count": session["participants"],
        "created_at": views.time(session["created_at"]),
    }
    for choice in views.counted_choices(export.poll, session):
        yield {
            "record": "choice",
            "poll_choice_id": choice["id"],
            "text": choice["text"],
            "count": choice["votes"],
            "percentage": choice["percentage"],
        }


def _record(submission: dict[str, Any]) -> dict[str, Any]:
    chosen = submission.get("poll_choice_ids", [submission["poll_choice_id"]])
    return {
        "record": "submission",
        "id": submission["id"],
        "poll_choice_id": chosen[0] if len(chosen) == 1 else " ".join(map(str, chosen)),
        "user_id": submission["user_id"],
        "created_at": submission["created_at"],
        "comment": submission.get("comment"),
    }


def _lines(records: Iterable[dict[str, Any]]) -> bytes:
    """CSV lines (RFC 4180): all columns, and CRLF."""
    rows = ((_cell(column, record.get(column)) for column in COLUMNS) for record in records)
    return "".join(",".join(row) + "\r\n" for row in rows).encode()


def _cell(column: str, value: object) -> str:
    """Times are left to programs, which read them, and to spreadsheets, which show them as such."""
    return quoted(str(value)) if column == "created_at" and value is not None else cell(value)
