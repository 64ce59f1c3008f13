"""The operations of the content API."""

from schemas.content import (
    MAX_REFERENCES,
    NEW_PLACE,
    NEW_POLL,
    NEW_VOTE,
    POLL_REPLACEMENT,
    POLLS_QUERY,
)
from schemas.links import NEW_LINK
from schemas.moving import BALLOTS_LINE, POLL_LINE, SESSIONS_LINE
from schemas.responses import (
    EXPANDED_POLL,
    LINE_ANSWER,
    LINK,
    POLL,
    QUERY_PROBLEM,
    RESULTS_OF_POLL,
    VOTE,
    WORKSPACE_POLLS,
)
from service.openapi.examples import EXAMPLES
from service.openapi.operation import (
    Answer,
    Either,
    Operation,
    Operations,
    json_answer,
    json_content,
    list_of,
    live_answer,
)
from service.web.lines import NDJSON
from storage.errors import Code

PLACE = ("workspace", "content", "container")
ONE_POLL = (*PLACE, "pollId")
LISTED = (
    *("workspace", "contentOfPolls", "container", "onlyPollId", "expand"),
    *("state", "updatedSince", "createdBy", "limit", "cursor"),
)

STORED_POLL = json_answer("The poll as stored.", POLL, "ETag")
DELETED_POLL = json_answer("The deleted poll.", POLL, "ETag")
RESTORED_POLL = json_answer("The restored poll.", POLL, "ETag")
POLLS = json_answer(
    "The polls of the content, or a page of those of the workspace.",
    Either("ListedContentPolls", (list_of(EXPANDED_POLL), WORKSPACE_POLLS)),
    *("ETag", "Link"),
)
FOUND = json_answer(
    "What each reference leads to.",
    list_of(
        Either("QueriedPolls", (list_of(EXPANDED_POLL), QUERY_PROBLEM)), maxItems=MAX_REFERENCES
    ),
)
STORED_VOTE = json_answer("The vote as stored.", VOTE)
WITHDRAWN_VOTE = json_answer("The withdrawn vote.", VOTE)
VOTES = json_answer("A page of votes.", list_of(VOTE), "Link")
MADE_LINK = json_answer("The link.", LINK)
RESULTS = live_answer(RESULTS_OF_POLL)

OF_NEW_POLL = {
    "query.workspace": "$request.query.workspace",
    "query.content": "$request.query.content",
    "query.pollId": "$response.body#/id",
}
ON_NEW_POLL = (
    *("listContentPolls", "replaceContentPoll", "deleteContentPoll"),
    *("castVote", "listVotes", "getResults"),
)
# Each line is one of these.
LINES = {
    NDJSON: {
        "schema": Either("MovedLine", (POLL_LINE, SESSIONS_LINE, BALLOTS_LINE)),
        "example": EXAMPLES[type(POLL_LINE)],
    }
}
ANSWERS = {NDJSON: {"schema": LINE_ANSWER, "example": EXAMPLES[type(LINE_ANSWER)]}}
EXPORTED = Answer("The lines of the poll.", LINES, ("Content-Disposition",))
IMPORTED = Answer("An answer to each line, in order, as soon as it is stored.", ANSWERS)

ELSEWHERE = {409: (Code.NO_STANDING_SESSION,)}
OF_VOTES = (Code.NO_STANDING_SESSION, Code.SESSION_CLOSED, Code.ALREADY_VOTED)
OF_KEYS = (Code.IDEMPOTENCY_KEY_OUTDATED, Code.LIMIT_REACHED)

OPERATIONS: Operations = {
    "GET /rest/polls": Operation("listContentPolls", POLLS, LISTED),
    "POST /rest/polls": Operation(
        "createContentPoll",
        STORED_POLL,
        PLACE,
        body=json_content(NEW_POLL),
        refusals={409: (Code.ID_TAKEN, Code.LIMIT_REACHED)},
        links=dict.fromkeys(ON_NEW_POLL, OF_NEW_POLL),
    ),
    "PUT /rest/polls": Operation(
        "replaceContentPoll",
        STORED_POLL,
        (*ONE_POLL, "If-Match"),
        body=json_content(POLL_REPLACEMENT),
        refusals={409: (Code.LIMIT_REACHED, Code.OPTION_HAS_VOTES)},
    ),
    "DELETE /rest/polls": Operation(
        "deleteContentPoll", DELETED_POLL, (*ONE_POLL, "now", "If-Match")
    ),
    "GET /rest/votes": Operation("listVotes", VOTES, ONE_POLL, refusals=ELSEWHERE),
    "POST /rest/votes": Operation(
        "castVote",
        STORED_VOTE,
        ONE_POLL,
        body=json_content(NEW_VOTE),
        refusals={400: (Code.INVALID_VOTE, Code.UNKNOWN_OPTION), 409: OF_VOTES + OF_KEYS},
    ),
    "DELETE /rest/votes": Operation(
        "withdrawVote", WITHDRAWN_VOTE, ONE_POLL, refusals={404: (Code.NO_VOTE,), 409: OF_VOTES}
    ),
    "POST /rest/links": Operation(
        "createLink", MADE_LINK, ONE_POLL, body=json_content(NEW_LINK), refusals=ELSEWHERE
    ),
    "POST /rest/query": Operation(
        "queryPolls",
        FOUND,
        body=json_content(POLLS_QUERY),
        refusals={409: (Code.LIMIT_REACHED,)},
        is_safe=True,
    ),
    "POST /rest/copies": Operation(
        "copyContentPoll",
        STORED_POLL,
        ONE_POLL,
        body=json_content(NEW_PLACE),
        refusals={409: (Code.LIMIT_REACHED,)},
    ),
    "GET /rest/export": Operation(
        "exportContentPoll", EXPORTED, ("anyPollId",), refusals={404: (Code.NOT_FOUND,)}
    ),
    "POST /rest/import": Operation("importContentPolls", IMPORTED, body=LINES, is_keyed=False),
    "POST /rest/restore": Operation(
        "restorePoll",
        RESTORED_POLL,
        ("deletedPollId",),
        refusals={404: (Code.NOT_FOUND,), 409: (Code.ID_TAKEN, Code.LIMIT_REACHED)},
    ),
    "GET /rest/results": Operation(
        "getResults",
        RESULTS,
        (*ONE_POLL, "Last-Event-ID"),
        refusals={403: (Code.RESULTS_HIDDEN,), **ELSEWHERE},
    ),
}
