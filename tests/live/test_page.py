"""The page of a link, as it is served: what it shows to whom, its form, and its headers."""

from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from pytest_aiohttp import AiohttpClient

from service.app import create_app
from service.live import hub, watcher
from service.live.files import FILES, TAGS
from service.settings import InvalidSetting, Settings, read_settings
from storage.errors import Unavailable
from storage.sessions import Sessions
from storage.voting import MAX_KEYS
from tests.conftest import Client, Clock, Raw, TokenMaker
from tests.support.casting import (
    OPTIONS,
    Run,
    answered,
    change,
    content_run,
    course_run,
    enroll,
    tally,
    vote,
)
from tests.support.linking import VIEW, VOTE, Shown, look, make_link, read, send
from tests.support.seeds import DEFAULT_SETTINGS, ISSUE, Json, a_poll, refused
from tests.support.watching import Event, Target, of_content, watching

SHOWN = {"1": ("50%", "1 vote"), "2": ("50%", "1 vote"), "3": ("0%", "0 votes")}
HIDDEN: dict[str, tuple[str, ...]] = {"1": (), "2": (), "3": ()}
SHARES = {"1": ("50%",), "2": ("50%",), "3": ("0%",)}
END = "2126-01-31T18:00:00Z"


async def voted_run(api: Client, raw: Raw, **settings: Any) -> Run:
    """A poll with the votes of the users 1 and 2."""
    run = await content_run(api, raw, **settings)
    await answered(await vote(api, run, "1", acting=1))
    await answered(await vote(api, run, "2", acting=2))
    return run


async def close(api: Client, run: Run) -> None:
    await answered(await api.put(f"{run.url}/close"))


# What is shown ---------------------------------------------------------------------------------


async def test_the_page_shows_question_options_counts_and_shares(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await voted_run(api, raw)
    page = await look(anonymous, await make_link(api, run, VIEW))
    assert page.figures == SHOWN
    for text in ("Tea?", "red", "green", "blue", "2 voters", "Open"):
        assert text in page.text
    assert not page.has_form


async def test_results_after_the_vote_are_shown_to_those_who_voted(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await voted_run(api, raw, resultsVisibility="afterVote")
    before = await look(anonymous, await make_link(api, run, VOTE, acting=3))
    assert before.figures == HIDDEN
    assert "Results are shown once you have voted." in before.text
    assert "voters" not in before.text.replace("to voters", "")
    assert (await look(anonymous, await make_link(api, run, VOTE, acting=1))).figures == SHOWN
    after = await send(anonymous, await make_link(api, run, VOTE, acting=3), "1")
    assert after.figures["1"] == ("66.7%", "2 votes")


async def test_results_after_the_close_are_shown_then_and_the_page_says_when(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await voted_run(
        api, raw, resultsVisibility="afterClose", closePollOnEndDate=True, endDate=END
    )
    link = await make_link(api, run, VIEW)
    page = await look(anonymous, link)
    assert page.figures == HIDDEN
    assert "Results are shown when the poll closes, on 31 January 2126, 18:00 UTC ." in page.text
    await close(api, run)
    closed = await look(anonymous, link)
    assert closed.figures == SHOWN
    assert "Closed" in closed.text


async def test_private_results_are_not_shown_even_by_a_link_of_an_admin(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await voted_run(api, raw, resultsVisibility="private")
    for options in ({}, {"acting": 1}):
        page = await look(anonymous, await make_link(api, run, VOTE, **options))
        assert page.figures == HIDDEN
        assert "The results of this poll are not public." in page.text


async def test_hidden_numbers_are_shown_as_shares_even_by_a_link_of_an_admin(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await voted_run(api, raw, hideAbsoluteNumbers=True)
    page = await look(anonymous, await make_link(api, run, VIEW))
    assert page.figures == SHARES
    assert "2 voters" not in page.text


@pytest.mark.parametrize("public", [True, False])
async def test_results_of_a_course_are_shown_where_they_are_public(
    api: Client, anonymous: Client, raw: Raw, public: bool
) -> None:
    run = await course_run(api, raw, public=public)
    await enroll(api, 7)
    link = await make_link(api, run, VOTE, acting=7)
    page = await send(anonymous, link, "1")
    assert page.status == 200
    assert page.figures == (
        {**SHOWN, "1": ("100%", "1 vote"), "2": ("0%", "0 votes")} if public else HIDDEN
    )
    assert page.own == ["1"]


async def test_shares_have_a_decimal_where_one_of_them_needs_it(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await voted_run(api, raw, allowSelectionOfMultipleOptions=True)
    link = await make_link(api, run, VIEW)
    await answered(await vote(api, run, "1", "2", "3", acting=3))
    assert [share for share, _ in (await look(anonymous, link)).figures.values()] == [
        "66.7%",
        "66.7%",
        "33.3%",
    ]
    await answered(await vote(api, run, "1", acting=4))
    assert [share for share, _ in (await look(anonymous, link)).figures.values()] == [
        "75%",
        "50%",
        "25%",
    ]


async def test_of_many_options_those_that_lead_are_named_at_the_top(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    options = [{"title": f"Option {n}"} for n in range(1, 14)]
    poll = await answered(await api.post("/rest", params=ISSUE, json=a_poll(options=options)))
    [session] = raw.sessions.find({"poll_id": poll["id"]})
    run = Run(poll["id"], session["poll_number"], session["_id"], ISSUE)
    link = await make_link(api, run, VIEW)

    async def leading() -> str:
        head = (await look(anonymous, link)).html.partition("</header>")[0]
        return head.partition("data-leaders>")[2].partition("<")[0]

    assert await leading() == ""
    await answered(await vote(api, run, "2", acting=1))
    assert await leading() == "\u2068Option 2\u2069"
    for user, option in enumerate(["3", "4", "5"], 2):
        await answered(await vote(api, run, option, acting=user))
    assert await leading() == (
        "\u2068Option 2\u2069, \u2068Option 3\u2069, \u2068Option 4\u2069 and 1 more"
    )


async def test_a_session_that_was_never_opened_is_not_said_to_be_closed(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await course_run(api, raw, opened=False)
    link = await make_link(api, run, VIEW)
    assert "Not open yet" in (await look(anonymous, link)).text
    for step, state in (("open", "Open"), ("close", "Closed")):
        await answered(await api.put(f"{run.url}/{step}"))
        page = await look(anonymous, link)
        assert (state in page.text, "Not open yet" in page.text) == (True, False)


# What is told of the holder's vote --------------------------------------------------------------


async def test_of_an_unnamed_vote_the_link_of_a_service_tells_only_that_there_is_one(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await voted_run(api, raw, allowRevote=True, allowComment=True)
    link = await make_link(api, run, VOTE, acting=1)
    pages = [await look(anonymous, link)]
    pages.append(await send(anonymous, link, "3", fields={"comment": "because"}))
    pages.append(await look(anonymous, link))
    for page in pages:
        assert page.own == []
        assert " checked" not in page.html
        assert "because" not in page.text
        assert "You have voted." in page.text
        assert "Withdraw vote" in page.text
    assert tally(raw, run) == {"2": 1, "3": 1}


async def test_a_named_vote_is_shown_to_its_voter_as_it_was_cast(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await content_run(api, raw, saveParticipantNames=True, allowComment=True)
    link = await make_link(api, run, VOTE, acting=1)
    await send(anonymous, link, "2", fields={"comment": "because"})
    page = await look(anonymous, link)
    assert page.own == ["2"]
    assert "because" in page.text
    # Nor does a link for anybody to watch tell of the vote of whoever made it.
    watching = await look(anonymous, await make_link(api, run, VIEW, acting=1))
    assert watching.own == []
    assert "because" not in watching.text
    assert "voted" not in watching.text
    # Nor any link of another user.
    other = await look(anonymous, await make_link(api, run, VOTE, acting=2))
    assert (other.own, "because" in other.text) == ([], False)


async def test_of_an_unnamed_vote_its_voters_own_link_tells_all(
    api: Client, anonymous: Client, raw: Raw, make_token: TokenMaker
) -> None:
    run = await content_run(api, raw, allowRevote=True)
    link = await make_link(api, run, VOTE, who=await make_token(user_id=1))
    await send(anonymous, link, "2")
    page = await look(anonymous, link)
    assert page.own == ["2"]
    assert page.html.count(" checked") == 1


# The form --------------------------------------------------------------------------------------


async def test_a_vote_is_cast_changed_and_withdrawn_by_the_form(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await content_run(
        api, raw, allowRevote=True, allowComment=True, allowSelectionOfMultipleOptions=True
    )
    link = await make_link(api, run, VOTE, acting=7)
    cast = await send(anonymous, link, "1", "3", fields={"comment": "a\r\nb", "action": "vote"})
    assert (cast.status, "Your vote was counted." in cast.text) == (200, True)
    assert tally(raw, run) == {"1": 1, "3": 1}
    assert raw.ballots.find_one({}, {"comment": 1, "_id": 0}) == {"comment": "a\nb"}
    await send(anonymous, link, "2", fields={"comment": " ", "action": "vote"})
    assert tally(raw, run) == {"2": 1}
    assert raw.ballots.find_one({}, {"comment": 1, "_id": 0}) == {"comment": None}
    withdrawn = await send(anonymous, link, "2", fields={"action": "withdraw"})
    assert (withdrawn.status, "Your vote was withdrawn." in withdrawn.text) == (200, True)
    assert tally(raw, run) == {}
    again = await send(anonymous, link, fields={"action": "withdraw"})
    assert (again.status, "There is no vote to withdraw." in again.text) == (404, True)


async def test_a_form_that_is_sent_twice_casts_one_vote_and_a_changed_one_another(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await content_run(api, raw, allowRevote=True)
    link = await make_link(api, run, VOTE, acting=7)
    key = {"key": (await look(anonymous, link)).key}
    for option in ("1", "1", "2", "2"):
        page = await send(anonymous, link, option, fields=key)
        assert (page.status, "Your vote was counted" in page.text) == (200, True)
        assert tally(raw, run) == {option: 1}
    # Not counted again, or one that arrives late would take the place of the newer one.
    page = await send(anonymous, link, "1", fields=key)
    assert page.status == 409
    assert "This vote was sent before, and was replaced or withdrawn since." in page.text
    assert tally(raw, run) == {"2": 1}


async def test_a_changed_vote_is_called_so_to_those_that_may_know_it(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    """To others a form that is sent again says the same as one that changes the vote."""
    for is_named, says in (
        (True, ["counted.", "counted.", "changed."]),
        (False, ["counted.", *2 * ["counted, in place of any earlier one."]]),
    ):
        run = await content_run(api, raw, allowRevote=True, saveParticipantNames=is_named)
        link = await make_link(api, run, VOTE, acting=7)
        for option, end in zip("112", says, strict=True):
            page = await send(anonymous, link, option, fields={"key": "k"})
            assert f"Your vote was {end}" in page.text


async def test_a_form_for_an_earlier_version_of_the_poll_casts_nothing(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    """Or people would vote for an option by a text that it has no more."""
    run = await content_run(api, raw, allowRevote=True)
    link = await make_link(api, run, VOTE, acting=7)
    old = (await look(anonymous, link)).version
    choice = f"{run.poll_url}/poll_choices/2"
    await answered(await api.put(choice, json={"poll_choices": [{"text": "brown"}]}))
    page = await send(anonymous, link, "2", fields={"version": old})
    assert page.status == 409
    assert "This poll has changed. Please check your choice." in page.text
    assert "brown" in page.text
    assert page.html.count(" checked") == 1
    assert tally(raw, run) == {}
    await answered(await vote(api, run, "1", acting=7))
    changed = await send(anonymous, link, "2", fields={"version": page.version})
    assert changed.status == 200
    assert tally(raw, run) == {"2": 1}
    # That does not matter to who takes the vote back, nor where none is taken.
    withdrawn = await send(anonymous, link, fields={"version": old, "action": "withdraw"})
    assert withdrawn.status == 200
    await close(api, run)
    assert "Voting is closed." in (await send(anonymous, link, "2", fields={"version": old})).text


async def test_votes_do_not_make_the_form_outdated(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await content_run(api, raw, allowRevote=True, resultsVisibility="afterVote")
    link = await make_link(api, run, VOTE, acting=7)
    form = await look(anonymous, link)
    fields = {"key": form.key, "version": form.version}
    for _ in range(2):
        assert (await send(anonymous, link, "1", fields=fields)).status == 200


async def test_where_votes_cannot_be_changed_a_form_that_is_sent_again_says_so(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await content_run(api, raw, saveParticipantNames=True)
    link = await make_link(api, run, VOTE, acting=7)
    key = {"key": (await look(anonymous, link)).key}
    await send(anonymous, link, "1", fields=key)
    second = await send(anonymous, link, "1", fields=key)
    assert (second.status, "Sending the form again changes nothing." in second.text) == (200, True)
    changed = await send(anonymous, link, "2", fields=key)
    assert (changed.status, "You have already voted." in changed.text) == (409, True)
    assert tally(raw, run) == {"1": 1}


async def test_whoever_guesses_the_key_of_a_form_does_not_learn_a_vote_without_a_name(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await content_run(api, raw, allowComment=True, resultsVisibility="private")
    link = await make_link(api, run, VOTE, acting=7)
    entered = {"key": "guessed", "comment": "because"}
    await send(anonymous, link, "2", fields=entered)
    guesses = [("1", entered), ("2", entered), ("2", {**entered, "comment": "no"})]
    told = [await send(anonymous, link, option, fields=fields) for option, fields in guesses]
    assert len({(page.status, page.text) for page in told}) == 1
    assert tally(raw, run) == {"2": 1}

    await change(api, run, allowRevote=True, resultsVisibility="private")
    told = [await send(anonymous, link, option, fields={"key": "k"}) for option in ("1", "1", "3")]
    assert len({(page.status, page.text) for page in told}) == 1


async def test_a_vote_that_was_changed_too_often_is_refused_in_plain_words(
    api: Client, anonymous: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw, allowRevote=True, saveParticipantNames=True)
    link = await make_link(api, run, VOTE, acting=7)
    await send(anonymous, link, "1")
    keys = [{"key": str(n), "fingerprint": None, "at": clock.now} for n in range(MAX_KEYS)]
    raw.ballots.update_one({}, {"$set": {"requests": keys}})
    page = await send(anonymous, link, "2", fields={"key": (await look(anonymous, link)).key})
    assert page.status == 409
    assert "You have changed your vote too often today." in page.text
    assert tally(raw, run) == {"1": 1}


@pytest.mark.parametrize(
    ("allowed", "sent", "status", "says"),
    [
        ({}, ("1", "2"), 400, "Please choose only one option."),
        ({}, (), 400, "Please choose an option."),
        ({}, ("9",), 400, "The option you chose is no longer in this poll."),
        ({}, ("$set.x",), 400, "The option you chose is no longer in this poll."),
        ({"allowComment": True}, (), 400, "Please choose an option."),
    ],
)
async def test_a_bad_choice_is_said_in_plain_words_and_what_was_entered_is_kept(
    api: Client,
    anonymous: Client,
    raw: Raw,
    allowed: dict[str, Any],
    sent: tuple[str, ...],
    status: int,
    says: str,
) -> None:
    run = await content_run(api, raw, **allowed)
    link = await make_link(api, run, VOTE, acting=7)
    fields = {"comment": "<i>kept</i>"} if allowed else {}
    page = await send(anonymous, link, *sent, fields=fields)
    assert (page.status, says in page.text) == (status, True)
    assert page.html.count(" checked") == len({"1", "2", "3"} & set(sent))
    assert ("&lt;i&gt;kept&lt;/i&gt;" in page.html) == bool(allowed)
    assert tally(raw, run) == {}


async def test_a_comment_that_is_too_long_or_not_allowed_is_refused_and_kept(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await content_run(api, raw, allowComment=True)
    link = await make_link(api, run, VOTE, acting=7)
    long = "é" * 1001
    page = await send(anonymous, link, "1", fields={"comment": long})
    assert page.status == 400
    assert "Your comment can have at most 1,000 characters." in page.text
    assert long in page.html
    await change(api, run, allowComment=False)
    page = await send(anonymous, link, "1", fields={"comment": "x"})
    assert page.status == 400
    assert "This poll does not allow comments. Your vote was not counted." in page.text
    assert tally(raw, run) == {}


async def test_a_second_vote_and_one_after_the_close_are_said_in_plain_words(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await content_run(api, raw)
    link, late = [await make_link(api, run, VOTE, acting=user) for user in (7, 8)]
    await send(anonymous, link, "1")
    again = await send(anonymous, link, "2")
    assert again.status == 409
    assert "You have already voted. This poll does not allow changing a vote." in again.text
    assert not again.has_form
    await close(api, run)
    page = await send(anonymous, late, "2")
    assert page.status == 409
    assert "Voting is closed. Your vote was not counted." in page.text
    assert not page.has_form
    assert tally(raw, run) == {"1": 1}


async def test_a_poll_that_ends_is_closed_on_the_page_from_that_second_on(
    api: Client, anonymous: Client, raw: Raw, clock: Clock
) -> None:
    run = await content_run(api, raw, closePollOnEndDate=True, endDate=END)
    link = await make_link(api, run, VOTE, acting=7, seconds=86_400)
    page = await look(anonymous, link)
    assert "until 31 January 2126, 18:00 UTC" in page.text
    assert page.has_form
    clock.advance(hours=6)
    ended = await look(anonymous, link)
    assert ("Closed" in ended.text, ended.has_form) == (True, False)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("application/x-www-form-urlencoded", b"option=1&action=x", 400),
        ("application/x-www-form-urlencoded", b"option=%ff", 400),
        ("application/x-www-form-urlencoded", b"option=1&" * 201, 400),
        ("application/x-www-form-urlencoded", b"x" * 70_000, 413),
        ("application/x-www-form-urlencoded", b"x" * (2**20 + 1), 413),
    ],
)
async def test_what_is_no_form_of_the_page_is_refused_with_a_page(
    api: Client, anonymous: Client, raw: Raw, kind: str, body: bytes, status: int
) -> None:
    run = await content_run(api, raw)
    link = await make_link(api, run, VOTE, acting=7)
    answer = await anonymous.post(link, data=BytesIO(body), headers={"Content-Type": kind})
    assert (await read(answer)).status == status
    assert tally(raw, run) == {}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_form_on_another_site_casts_nothing(
    api: Client, anonymous: Client, raw: Raw, site: str
) -> None:
    run = await content_run(api, raw)
    link = await make_link(api, run, VOTE, acting=7)
    page = await send(anonymous, link, "1", headers={"Sec-Fetch-Site": site})
    assert page.status == 403
    assert tally(raw, run) == {}
    page = await send(anonymous, link, "1", headers={"Sec-Fetch-Site": "same-origin"})
    assert page.status == 200
    assert tally(raw, run) == {"1": 1}
    # Others may lead to the page.
    answer = await anonymous.get(link, headers={"Sec-Fetch-Site": site})
    assert answer.status == 200


async def test_without_sec_fetch_site_the_origin_of_a_form_decides(
    api: Client,
    anonymous: Client,
    raw: Raw,
    settings: Settings,
    aiohttp_client: AiohttpClient,
    clock: Clock,
) -> None:
    run = await content_run(api, raw, allowRevote=True)
    link = await make_link(api, run, VOTE, acting=7)
    for origin in ("http://evil.example", "https://polls.example", "http://127.0.0.1", "evil"):
        page = await send(anonymous, link, "1", headers={"Origin": origin})
        assert (page.status, "Your vote was not sent" in page.text) == (403, True)
    assert tally(raw, run) == {}
    public = await aiohttp_client(
        create_app(replace(settings, public_url="https://polls.example/base"), clock=clock)
    )
    for client, origin in (
        (anonymous, str(anonymous.make_url("")).rstrip("/")),
        (public, "https://polls.example"),
        # A page without referrer has no other, and a browser that says more has checked it.
        (anonymous, "null"),
    ):
        assert (await send(client, link, "1", headers={"Origin": origin})).status == 200
    checked = {"Origin": "https://behind.a.proxy", "Sec-Fetch-Site": "same-origin"}
    assert (await send(anonymous, link, "1", headers=checked)).status == 200


# The stream of the page ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "allowed",
    [
        {},
        {"resultsVisibility": "afterVote", "allowRevote": True},
        {"resultsVisibility": "afterClose", "closePollOnEndDate": True, "endDate": END},
        {"resultsVisibility": "private", "saveParticipantNames": True},
        {"hideAbsoluteNumbers": True, "allowSelectionOfMultipleOptions": True},
    ],
    ids=["public", "afterVote", "afterClose", "private", "hidden numbers"],
)
async def test_the_stream_of_the_page_says_what_the_page_does(
    api: Client, anonymous: Client, raw: Raw, allowed: dict[str, Any]
) -> None:
    """Or the page would load again and again, or show what it may not."""
    run = await voted_run(api, raw, **allowed)
    links = [
        await make_link(api, run, actions, acting=user)
        for actions in (VIEW, VOTE)
        for user in (1, 3)
    ]
    for is_closed in (False, True):
        if is_closed:
            await close(api, run)
        for link in links:
            page = await look(anonymous, link)
            async with watching(anonymous, Target(f"{link}/events", {})) as stream:
                event = await stream.results()
            assert event.keys() == {"closed", "layout", "results", "revision"}
            assert f'data-layout="{event["layout"]}"' in page.html
            assert event["closed"] == is_closed == ("Closed" in page.text)
            shown = page.figures["1"]
            if event["results"] is None:
                assert shown == ()
            else:
                option = event["results"]["options"]["1"]
                votes = () if option["votes"] is None else (f"{option['votes']} vote",)
                assert shown == (f"{option['percentage']:g}%", *votes)


async def test_only_the_stream_of_the_page_has_pings_that_scripts_hear(
    api: Client, anonymous: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr("service.live.events.HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(hub, "TICK_SECONDS", 0.02)
    run = await content_run(api, raw)
    link = await make_link(api, run, VIEW)
    async with (
        watching(api, of_content(run)) as results,
        watching(anonymous, Target(f"{link}/events", {})) as stream,
    ):
        await stream.results()
        assert await stream.next() == Event("ping", {})
        assert stream.comments == 0
        await results.results()
        assert await results.is_silent(0.3)
        assert results.comments


async def test_the_stream_of_the_page_tells_of_every_change_of_its_texts(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    """Or people would vote for an option by the name that it had; results do not change by it."""
    run = await content_run(api, raw)
    link = await make_link(api, run, VOTE, acting=7)
    settings = {"settings": DEFAULT_SETTINGS}
    swapped = [{**option, "order": -place} for place, option in enumerate(OPTIONS)]
    changes: list[tuple[str, Json]] = [
        (run.poll_url, {"polls": [{"question": "Coffee?"}]}),
        (f"{run.poll_url}/poll_choices/2", {"poll_choices": [{"text": "brown"}]}),
        ("/rest", a_poll(description="By Friday.", options=OPTIONS, **settings)),
        ("/rest", a_poll(description="By Friday.", options=swapped, **settings)),
    ]
    async with (
        watching(api, of_content(run)) as results,
        watching(anonymous, Target(f"{link}/events", {})) as stream,
    ):
        await results.results()
        layouts = [(await stream.results())["layout"]]
        for path, body in changes:
            params = run.query if path == "/rest" else {}
            await answered(await api.put(path, params=params, json=body))
            layouts.append((await stream.results())["layout"])
            page = await look(anonymous, link)
            assert f'data-layout="{layouts[-1]}"' in page.html
        assert len({*layouts}) == 1 + len(changes)
        assert await results.is_silent(0.3)


# Text is never markup --------------------------------------------------------------------------


async def test_titles_description_and_comments_are_text(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    evil = "</title><script>alert(1)</script><img src=x onerror=\"alert('x')\">{{ 7 * 7 }}"
    settings = {"allowComment": True, "saveParticipantNames": True, "allowRevote": True}
    body = a_poll(
        title=evil, description=evil, options=[{"title": evil, "order": 0}], settings=settings
    )
    poll = await answered(await api.post("/rest", params=ISSUE, json=body))
    [session] = raw.sessions.find({"poll_id": poll["id"]})
    run = Run(poll["id"], session["poll_number"], session["_id"], ISSUE)
    link = await make_link(api, run, VOTE, acting=7)
    page = await send(anonymous, link, "1", fields={"comment": f"</textarea>{evil}"})
    for html in (page.html, (await look(anonymous, link)).html):
        assert "<script>" not in html
        assert "<img" not in html
        assert html.count("</textarea>") == 1
        assert "{{ 7 * 7 }}" in html


# Headers and files -----------------------------------------------------------------------------


async def test_every_answer_of_the_page_is_guarded(
    api: Client, anonymous: Client, raw: Raw
) -> None:
    run = await content_run(api, raw)
    link = await make_link(api, run, VOTE, acting=7)
    for answer in (
        await anonymous.get(link),
        await anonymous.post(link, data={"option": "1"}),
        await anonymous.get(f"{link}x"),
    ):
        policy = answer.headers["Content-Security-Policy"].split("; ")
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert not any("unsafe" in one or "*" in one or "data:" in one for one in policy)
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        html = await answer.text()
        assert " style=" not in html
        assert "<style" not in html
        assert " on" not in html.partition("<body>")[0]


async def test_files_are_kept_under_the_tag_of_their_content_and_no_other_is_served(
    anonymous: Client,
) -> None:
    for name, kind in FILES.items():
        answer = await anonymous.get(f"/pages/{name}", params={"v": TAGS[name]})
        assert (answer.status, answer.content_type) == (200, kind)
        assert "immutable" in answer.headers["Cache-Control"]
        other = await anonymous.get(f"/pages/{name}", params={"v": "another"})
        assert (other.status, other.headers["Cache-Control"]) == (200, "no-cache")
    for name in ("poll.html", "..%2Fpage.py", "nothing.js"):
        await refused(await anonymous.get(f"/pages/{name}"), 404)


async def test_pages_that_may_frame_it_are_named_by_the_setting(
    api: Client, raw: Raw, settings: Settings, aiohttp_client: AiohttpClient, clock: Clock
) -> None:
    run = await content_run(api, raw)
    link = await make_link(api, run, VIEW)
    framed = "'self' https://*.atlassian.net"
    client = await aiohttp_client(
        create_app(replace(settings, frame_ancestors=framed), clock=clock)
    )
    answer = await client.get(link)
    assert answer.headers["Content-Security-Policy"].endswith(f"; frame-ancestors {framed}")


@pytest.mark.parametrize(
    ("value", "directive"),
    [
        ("none", "'none'"),
        ("'self'", "'self'"),
        ("self, https://a.example", "'self' https://a.example"),
        ("https://*.A.example:8443 http://[::1]:*", "https://*.a.example:8443 http://[::1]:*"),
    ],
)
def test_the_setting_is_read_as_a_list_of_origins(value: str, directive: str) -> None:
    assert read_settings({"POLLS_FRAME_ANCESTORS": value}).frame_ancestors == directive


@pytest.mark.parametrize(
    "value", ["*", "https://a.example; script-src *", "none self", "a.example/x", "https:", ","]
)
def test_a_setting_that_is_no_such_list_is_refused(value: str) -> None:
    with pytest.raises(InvalidSetting, match="POLLS_FRAME_ANCESTORS"):
        read_settings({"POLLS_FRAME_ANCESTORS": value})


async def test_the_page_of_a_database_that_is_away_says_so(
    api: Client, anonymous: Client, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await content_run(api, raw)
    link = await make_link(api, run, VOTE)

    async def away(*_: object) -> None:
        raise Unavailable

    monkeypatch.setattr(Sessions, "get", away)
    page: Shown = await look(anonymous, link)
    assert page.status == 503
    assert "Not available right now" in page.text
