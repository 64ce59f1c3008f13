"""Poll, vote, results, session, export: through the client of openapi-python-client.

``python walk.py URL TOKEN`` with the generated package on the path.
"""

import json
import sys
from typing import Any
from uuid import UUID

from polls_service_client import AuthenticatedClient
from polls_service_client.api.content_polls import (
    cast_vote,
    create_content_poll,
    get_results,
    list_content_polls,
    query_polls,
)
from polls_service_client.api.courses_and_users import create_enrollment
from polls_service_client.api.poll_sessions import (
    create_poll_session,
    export_poll_session,
    get_poll_session,
    open_poll_session_by_put,
)
from polls_service_client.api.poll_submissions import create_poll_submission
from polls_service_client.api.tokens import create_token, list_tokens, revoke_token
from polls_service_client.models import (
    CastVoteConflict,
    CastVoteConflictCode,
    ExportPollSessionFormat,
    ListContentPollsExpand,
    NewContentOption,
    NewContentPoll,
    NewContentSettings,
    NewContentVote,
    NewEnrollment,
    NewEnrollmentsBody,
    NewPollSession,
    NewPollSessionBody,
    NewPollSubmission,
    NewPollSubmissionBody,
    NewToken,
    NewTokenActionsType0Item,
    PollReference,
    PollsQuery,
    PollsQueryExpandType0Item,
)

PLACE = {"workspace": "PLAT", "content": "PLAT-1"}
ENDS = "2099-12-31T18:00:00+01:00"


def walk(api: Any) -> None:
    settings = NewContentSettings(end_date=ENDS, save_participant_names=True)
    options = [NewContentOption(title="Tea"), NewContentOption(title="Coffee")]
    new = NewContentPoll(title="Tea or coffee?", options=options, settings=settings)
    poll = create_content_poll.sync(client=api, body=new, **PLACE)
    assert poll.settings.end_date == ENDS
    assert [option.id for option in poll.options] == ["1", "2"]

    one = {**PLACE, "poll_id": poll.id}
    vote = cast_vote.sync(client=api, body=NewContentVote(option_ids=["2"]), **one)
    assert vote.option_ids == ["2"]
    again = cast_vote.sync(client=api, body=NewContentVote(option_ids=["1"]), **one)
    assert isinstance(again, CastVoteConflict)
    assert again.code is CastVoteConflictCode.ALREADY_VOTED
    results = get_results.sync(client=api, **one).results
    assert results.options["2"].votes == 1
    [listed] = list_content_polls.sync(client=api, expand=ListContentPollsExpand.RESULTS, **PLACE)
    assert listed.results.to_dict() == results.to_dict()
    page = list_content_polls.sync(client=api, workspace=PLACE["workspace"], limit=1)
    assert (page.polls[0].content, page.polls[0].state) == (PLACE["content"], "open")
    references = [PollReference(**PLACE), PollReference(poll_id=UUID(int=1))]
    query = PollsQuery(polls=references, expand=[PollsQueryExpandType0Item.VOTE])
    [[found], problem] = query_polls.sync(client=api, body=query)
    assert (found.has_voted, found.vote.option_ids) == (True, ["2"])
    assert (problem.status, problem.code) == (404, "not_found")
    users = [NewEnrollment(user_id=user) for user in (1, 2)]
    enrolled = create_enrollment.sync(1, client=api, body=NewEnrollmentsBody(enrollments=users))
    assert [one.user_id for one in enrolled] == [1, 2]

    body = NewPollSessionBody(poll_sessions=[NewPollSession(course_id=1)])
    [session] = create_poll_session.sync(poll.id, client=api, body=body).poll_sessions
    open_poll_session_by_put.sync(poll.id, session.id, client=api)
    ballot = NewPollSubmissionBody(poll_submissions=[NewPollSubmission(poll_choice_id=1)])
    made = create_poll_submission.sync(poll.id, session.id, client=api, body=ballot)
    assert [submission.poll_choice_id for submission in made.poll_submissions] == [1]
    [shown] = get_poll_session.sync(poll.id, session.id, client=api).poll_sessions
    assert shown.results.to_dict() == {"1": 1, "2": 0}

    files = {
        form: export_poll_session.sync(poll.id, session.id, client=api, format_=form)
        for form in ExportPollSessionFormat
    }
    assert "Coffee" in files[ExportPollSessionFormat.CSV]
    exported = json.loads(files[ExportPollSessionFormat.JSON])
    assert exported["poll_choices"][0]["votes"] == 1

    wanted = NewToken(
        name="page of user 42",
        user_id=42,
        actions=[NewTokenActionsType0Item.READ, NewTokenActionsType0Item.ACT],
        courses=[1, "*"],
        polls=[poll.id],
        expires_in=900,
    )
    token = create_token.sync(client=api, body=wanted)
    assert token.secret.startswith("polls_")
    [shown] = [one for one in list_tokens.sync(client=api) if one.name == token.name]
    assert (shown.user_id, shown.courses, shown.polls) == (42, [1, "*"], [poll.id])
    assert revoke_token.sync(token.name, client=api).expires_at == token.expires_at

    named = create_token.sync(client=api, body=NewToken(name="page of u42", user_id="u42"))
    assert named.user_id == "u42"
    vote = cast_vote.sync(
        client=api, body=NewContentVote(option_ids=["1"]), as_user_id="u42", **one
    )
    assert vote.user_id == "u42"


if __name__ == "__main__":
    url, token = sys.argv[1:]
    with AuthenticatedClient(url, token, raise_on_unexpected_status=True) as client:
        walk(client)
