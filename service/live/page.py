"""The page of a link: ``/p/:link`` (docs/api.md, section 7).

It is rendered here and works without scripts; ``pages/page.js`` only moves what is there.
"""

import asyncio
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from marshmallow import ValidationError

from schemas.content import MAX_COMMENT, NEW_VOTE
from service import casting
from service.live.events import respond_events
from service.live.files import PAGES, TAGS
from service.live.frames import PING
from service.live.links import Link, find_session, open_link
from service.rules import policy, views
from service.rules.policy import View
from service.settings import SETTINGS
from service.web.bodies import FORM, media_type, read_raw
from service.web.call import CALL, CLOCK, BodyCameLate
from service.web.conditional import tag_of
from service.web.pagination import base_url
from service.web.problems import problem_of
from service.web.query import BODY
from service.web.responses import Refused, in_pieces
from service.web.store_key import STORE
from storage.documents import (
    ContainerKey,
    RightsState,
    SessionDocument,
    is_open,
    rights_state,
    was_opened,
)
from storage.errors import Code, KeyOutdated
from storage.idempotency import IdempotencyKey
from storage.voting import Cast

Page = Callable[[web.Request], Awaitable[web.Response]]

GUARDS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "require-trusted-types-for 'script'; frame-ancestors {}",
    "Referrer-Policy": "no-referrer",
}
MAX_FORM_BYTES = 64 * 1024
MAX_FIELDS = 200
OWN_PAGES = (None, "same-origin", "none")
"""What ``Sec-Fetch-Site`` says of a form that is on the page itself; older browsers say nothing."""
NO_CHOICE = "Please choose an option."
ONE_CHOICE = "Please choose only one option."
NO_OPTION = "The option you chose is no longer in this poll."
NO_COMMENT = "This poll does not allow comments. Your vote was not counted."
LONG_COMMENT = f"Your comment can have at most {MAX_COMMENT:,} characters."
HAS_CHANGED = "This poll has changed. Please check your choice."
ACTIONS = ("", "vote", "withdraw")
FEW_OPTIONS = 12
"""Beyond them the page is laid out for many."""
MAX_LEADERS = 3
"""So many options that lead are named at the top of a page that has many."""

_templates = Environment(
    loader=FileSystemLoader(PAGES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_templates.globals["tags"] = TAGS
POLL_PAGE = _templates.get_template("poll.html")
REFUSAL_PAGE = _templates.get_template("refusal.html")


class Form(NamedTuple):
    """What was entered, and ``key``, which is another one on each page that was sent.

    ``version`` is that of the poll that was on the page; empty if the form does not say.
    """

    options: list[str]
    comment: str
    withdraws: bool
    key: str
    version: str


class Notice(NamedTuple):
    """What came of a form. ``kept`` is what was entered, where it has to be shown again."""

    status: int
    text: str
    kept: Form | None = None


class FormRefused(policy.Forbidden):
    """The link works, but its form may not be sent like this; ``title`` is that of the page."""

    def __init__(self, title: str, detail: str) -> None:
        super().__init__(detail)
        self.title = title


# Requests --------------------------------------------------------------------------------------


def _as_pages(handler: Page) -> Page:
    """Answers in HTML where ``problem_of`` would in JSON."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except (ConnectionError, BodyCameLate):
            raise
        except Exception as error:
            title = error.title if isinstance(error, FormRefused) else None
            return _refusal(request, problem_of(request, error), title)

    return answer


@_as_pages
async def show_page(request: web.Request) -> web.Response:
    """Get the page of a poll.

    For everybody who has the link. Shows what a reader of the poll sees, and with `vote` the form
    to vote. Does not need scripts; with them the page follows the results.
    """
    link, _ = await open_link(request)
    return await _respond(request, link)


@_as_pages
async def send_form(request: web.Request) -> web.Response:
    """Cast, change or withdraw a vote by the form of the page.

    For everybody who has the link, if it allows voting. Answers with the page, which says what came
    of it. Does not take forms from other sites.
    """
    link, _ = await open_link(request)
    _require_own_page(request)
    if not link.may_vote:
        raise FormRefused(
            "This link is for viewing only", "You can see the results of this poll, but not vote."
        )
    form = await _read_form(request)
    return await _respond(request, link, await _answer(request, link, form))


async def follow_page(request: web.Request) -> web.StreamResponse:
    """Follow what the page of a poll shows.

    For everybody who has the link. Each event has what the page needs to be as it would be if it
    were loaded again; `results` is null while they are hidden. Does not show anything else.
    """
    link, _ = await open_link(request)
    session, _ = await find_session(request, link)
    return await respond_events(
        request, session["_id"], shown_on_page, until=link.expires_at, heartbeat=PING
    )


def _require_own_page(request: web.Request) -> None:
    """Raises ``FormRefused`` for a form on a page of another site.

    Without ``Sec-Fetch-Site``, as over plain HTTP, ``Origin`` decides. That of the page itself is
    ``null``, since it sends no referrer.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin", "null")
    is_own = site in OWN_PAGES
    if site is None and origin != "null":
        own = {request.host, base_url(request).partition("://")[2].partition("/")[0]}
        is_own = origin.partition("://")[2].lower() in {host.lower() for host in own}
    if not is_own:
        raise FormRefused(
            "Your vote was not sent",
            "The form came from another site. Open the link and vote there.",
        )


async def _read_form(request: web.Request) -> Form:
    raw = await read_raw(request)
    if media_type(request) != FORM:
        raise web.HTTPUnsupportedMediaType(text=f"Send the form as {FORM}.")
    if len(raw) > MAX_FORM_BYTES:
        raise web.HTTPRequestEntityTooLarge(
            MAX_FORM_BYTES,
            len(raw),
            text=f"The form is over the limit of {MAX_FORM_BYTES:,} bytes.",
        )
    try:
        fields = parse_qsl(raw.decode(), True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError as error:
        message = f"must be a form in UTF-8 with at most {MAX_FIELDS} fields"
        raise ValidationError(message, BODY) from error
    values = dict(fields)
    if values.get("action", "") not in ACTIONS:
        raise ValidationError("must be vote or withdraw", "action")
    return Form(
        options=list(dict.fromkeys(value for name, value in fields if name == "option")),
        # A browser sends each line break as two characters, and counts it as one.
        comment=values.get("comment", "").replace("\r\n", "\n"),
        withdraws=values.get("action") == "withdraw",
        key=values.get("key", ""),
        version=values.get("version", ""),
    )


async def _answer(request: web.Request, link: Link, form: Form) -> Notice:
    """What came of a form; a refusal that the voter can do something about is a notice."""
    try:
        return await _cast(request, link, form)
    except ValidationError as error:
        return Notice(400, LONG_COMMENT if "comment" in error.messages_dict else NO_OPTION, form)
    except Refused as refusal:
        return Notice(refusal.status, _in_plain_words(refusal, form), form)


def _in_plain_words(refusal: Refused, form: Form) -> str:
    match refusal.code, refusal.field:
        case Code.UNKNOWN_OPTION, _:
            return NO_OPTION
        case Code.INVALID_VOTE, casting.PAGE.comment_field:
            return NO_COMMENT
        case Code.INVALID_VOTE, _:
            return ONE_CHOICE if form.options else NO_CHOICE
        case _:
            return str(refusal)


async def _cast(request: web.Request, link: Link, form: Form) -> Notice:
    """Casts what was entered, or withdraws the vote."""
    session = await _find_voted_session(request, link)
    if is_open(session) and form.version not in ("", version_of(session)) and not form.withdraws:
        return Notice(409, HAS_CHANGED, form)

    async def check_rights() -> RightsState:
        return rights_state(await _find_voted_session(request, link))

    cast = partial(
        casting.cast,
        *(request, casting.PAGE, link.session_id),
        rights_state=rights_state(session),
        check_rights=check_rights,
    )
    if form.withdraws:
        await cast(None)
        return Notice(200, "Your vote was withdrawn.")
    vote = NEW_VOTE.load({"optionIds": form.options, "comment": form.comment.strip() or None})
    may_change = session["rules"]["settings"]["allowRevote"]
    key = _key_of(request, form, vote, may_change=may_change)
    outcome = await cast(vote["optionIds"], comment=vote["comment"], idempotency_key=key)
    if outcome.is_replay and not may_change:
        return Notice(200, "Your vote was counted before. Sending the form again changes nothing.")
    if outcome.is_replay and not await _is_current(request, link, vote):
        return Notice(409, casting.PAGE.messages[KeyOutdated], form)
    return Notice(200, _success(request, outcome))


def _success(request: web.Request, outcome: Cast) -> str:
    """What became of a vote.

    Holders that may not know the vote are told the same of a form that is sent again as of one that
    changes the vote: otherwise it would tell whether a guess is right.
    """
    if not (outcome.is_change or outcome.is_replay):
        return "Your vote was counted."
    if not policy.knows_own(request[CALL].principal, outcome.ballot, outcome.rules):
        return "Your vote was counted, in place of any earlier one."
    return "Your vote was changed." if outcome.is_change else "Your vote was counted."


async def _find_voted_session(request: web.Request, link: Link) -> SessionDocument:
    """The session; raises ``Forbidden`` unless the holder may vote in it."""
    session, caller = await find_session(request, link)
    policy.require(policy.view_of(caller, session).may_vote, policy.NO_SESSION_ACCESS)
    return session


async def _is_current(request: web.Request, link: Link, vote: dict[str, Any]) -> bool:
    """Whether a vote that was cast before is still the holder's."""
    ballots, user_id = request.app[STORE].ballots, request[CALL].principal.user_id
    own = await ballots.find(link.session_id, user_id)
    return own is not None and (
        (own["choices"], own["comment"]) == (vote["optionIds"], vote["comment"])
    )


def _key_of(
    request: web.Request, form: Form, vote: dict[str, Any], *, may_change: bool
) -> IdempotencyKey | None:
    """A form that is sent twice casts one vote; one that was changed in between, another one.

    Where a vote cannot be changed nothing of it is part of the key: the answer would tell those
    that may not know the vote, but know or guess ``form.key``, whether they guessed it.
    """
    if not form.key:
        return None
    content = json.dumps([form.key, vote["optionIds"], vote["comment"]])
    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    name = fingerprint if may_change else hashlib.sha256(form.key.encode()).hexdigest()
    key = f"{request[CALL].principal.token_id} {name}"
    return IdempotencyKey(key, fingerprint, sent_at=request.app[CLOCK]())


# Answers ---------------------------------------------------------------------------------------


async def _respond(request: web.Request, link: Link, notice: Notice | None = None) -> web.Response:
    """The page as of now, with what came of a form."""
    store = request.app[STORE]
    session, caller = await find_session(request, link)
    key = ContainerKey.of(session["container"])
    poll, own = await asyncio.gather(
        store.polls.get(key, session["poll_id"]),
        store.ballots.find(session["_id"], caller.principal.user_id),
    )
    view = policy.view_of(caller, session, own)
    options = _options(views.content_poll(poll)["options"], session, view, notice)
    body = POLL_PAGE.render(
        poll=poll,
        options=options,
        is_many=len(options) > FEW_OPTIONS,
        leading=_leading(options),
        digits=_digits(options),
        settings=session["rules"]["settings"],
        view=view,
        can_vote=_can_vote(session, view),
        participants=session["participants"] if view.sees_results else None,
        hidden=policy.hidden_results(session),
        state=_state(session, view),
        layout=layout_of(session, view),
        version=version_of(session),
        closes_at=_closes_at(session),
        notice=notice,
        comment=_comment(view, notice),
        max_comment=MAX_COMMENT,
        key=secrets.token_urlsafe(16),
        name=request.match_info["link"],
    )
    return _html(request, body, 200 if notice is None else notice.status)


def _options(
    options: list[dict[str, Any]], session: SessionDocument, view: View, notice: Notice | None
) -> list[dict[str, Any]]:
    """Each with what the holder sees of it; ``votes`` and ``percentage`` are None where hidden."""
    results = views.content_results(session, view)["options"] if view.sees_results else {}
    most = max((result["percentage"] for result in results.values()), default=0)
    own = set(view.own["choices"]) if view.own is not None else set()
    entered = set(notice.kept.options) if notice is not None and notice.kept is not None else own
    unseen = {"votes": None, "percentage": None}
    return [
        {
            "id": option["id"],
            "title": option["title"],
            "is_own": option["id"] in own,
            "is_checked": option["id"] in entered,
            **(found := results.get(option["id"], unseen)),
            "leads": bool(most) and found["percentage"] == most,
        }
        for option in options
    ]


def _digits(options: list[dict[str, Any]]) -> int:
    """The decimals of all shares: one, so that they line up, unless all are whole."""
    return int(any((option["percentage"] or 0) % 1 for option in options))


def _leading(options: list[dict[str, Any]]) -> str:
    """Which options lead, in a line; ``page.js`` writes the same. Each title has its direction."""
    titles = [f"\u2068{option['title']}\u2069" for option in options if option["leads"]]
    more = len(titles) - MAX_LEADERS
    return ", ".join(titles[:MAX_LEADERS]) + (f" and {more} more" if more > 0 else "")


def _can_vote(session: SessionDocument, view: View) -> bool:
    may_change = not view.has_voted or session["rules"]["settings"]["allowRevote"]
    return view.may_vote and view.is_open and may_change


def _comment(view: View, notice: Notice | None) -> str:
    if notice is not None and notice.kept is not None:
        return notice.kept.comment
    return (view.own["comment"] or "") if view.own is not None else ""


def _closes_at(session: SessionDocument) -> dict[str, str] | None:
    closes_at = session["rules"]["closes_at"]
    if closes_at is None:
        return None
    return {"iso": views.time(closes_at), "text": f"{closes_at.day} {closes_at:%B %Y, %H:%M} UTC"}


def _state(session: SessionDocument, view: View) -> str:
    if view.is_open:
        return "Open"
    return "Closed" if was_opened(session) else "Not open yet"


def version_of(session: SessionDocument) -> str:
    """Is another one for each version of the poll that its readers can tell from the last."""
    rules = session["rules"]
    return tag_of(session.get("edition"), rules["options"], rules["settings"])


def layout_of(session: SessionDocument, view: View) -> str:
    """Is another one where more of the page has changed than numbers, and whether it is open.

    Of ``has_voted`` nothing is part of it: streams look for ballots only where results depend on
    them.
    """
    shown = [version_of(session), _closes_at(session), was_opened(session)]
    return tag_of(session["_id"], shown, view.sees_results, view.hides_counts, view.may_vote)


def shown_on_page(session: SessionDocument, view: View) -> dict[str, Any] | None:
    """What the stream of the page sends: ``results`` are null while they are hidden."""
    if not view.may_read:
        return None
    return {
        "closed": not view.is_open,
        "layout": layout_of(session, view),
        "results": views.content_results(session, view) if view.sees_results else None,
    }


def _refusal(request: web.Request, refused: web.Response, title: str | None = None) -> web.Response:
    """A page that says what a problem document says, with its headers."""
    problem = json.loads(refused.body or b"{}")  # type: ignore[arg-type] # bytes, as problem() makes
    status = refused.status
    body = REFUSAL_PAGE.render(
        status=status,
        title=title,
        phrase=HTTPStatus(status).phrase,
        detail=problem["detail"],
        code=problem["code"],
    )
    answer = _html(request, body, status)
    if "Retry-After" in refused.headers:
        answer.headers["Retry-After"] = refused.headers["Retry-After"]
    if refused.keep_alive is False:
        answer.force_close()
    return answer


def _html(request: web.Request, body: str, status: int) -> web.Response:
    ancestors = request.app[SETTINGS].frame_ancestors
    headers = {name: value.format(ancestors) for name, value in GUARDS.items()}
    return web.Response(
        body=in_pieces(body.encode()),
        status=status,
        content_type="text/html",
        charset="utf-8",
        headers=headers,
    )
