"""The content API: one endpoint, whose parameter ``type`` says what a request is about."""

from schemas.polls import NEW_POLL, NEW_VOTE, POLL_REPLACEMENT
from schemas.shown import EXPANDED_POLL, POLL, VOTE
from service.docs import examples
from service.docs.operation import (
    JSON,
    Answer,
    Json,
    Operation,
    Operations,
    Shape,
    json_answer,
    list_of,
)

TAG = "Content polls"
PLACE = ("Workspace", "Content", "Container")


def _either(polls: Shape, votes: Shape, poll: object, vote: object) -> dict[str, Json]:
    """JSON that depends on ``type``: polls or votes."""
    return {
        JSON: {
            # An empty list is both.
            "schema": {"anyOf": [polls, votes]},
            "examples": {"polls": {"value": poll}, "votes": {"value": vote}},
        }
    }


REST: dict[str, Operation] = {
    "GET": Operation(
        id="listContentPolls",
        summary="Get the polls of a content, or votes in one of them",
        description="`type=polls`: all polls of the content, oldest first; with `pollId` a list of "
        "that one, and an `ETag`.\n\n`type=votes`: the caller's own vote; for who may write there, "
        "where names are saved, all of them, in pages.",
        tag=TAG,
        parameters=("Type", *PLACE, "PollIdAsked", "Expand", "Page", "PerPage"),
        answer=Answer(
            description="Polls, or votes.",
            content=_either(
                list_of(EXPANDED_POLL),
                list_of(VOTE),
                [examples.STORED_STARS],
                [examples.STORED_VOTE],
            ),
            headers=("ETag", "Link"),
        ),
        refusals=(404, 409),
    ),
    "POST": Operation(
        id="createContentPoll",
        summary="Create a poll, or cast a vote",
        description="`type=polls`: creates a poll. What is left out gets its default, options "
        "without an `id` are numbered. The `id` of a poll is kept if no poll has it.\n\n"
        "`type=votes`: casts the caller's vote in the poll `pollId`; where the poll allows to "
        "revote it replaces the one before.",
        tag=TAG,
        parameters=("Type", *PLACE, "PollIdAsked"),
        body=_either(NEW_POLL, NEW_VOTE, examples.STARS, examples.VOTE),
        answer=Answer(
            description="The poll, or the vote, as it is stored.",
            content=_either(
                POLL,
                VOTE,
                examples.STORED_STARS,
                examples.STORED_VOTE,
            ),
            headers=("ETag",),
        ),
        refusals=(404,),
        leads_to={
            name: {
                "query.workspace": "$request.query.workspace",
                "query.content": "$request.query.content",
                "query.pollId": "$response.body#/id",
            }
            for name in ("listContentPolls", "replaceContentPoll", "deleteContentPoll")
        },
    ),
    "PUT": Operation(
        id="replaceContentPoll",
        summary="Replace a poll",
        description="The poll is replaced whole; what `GET` answered can be sent back unchanged. "
        "An option that has votes cannot be dropped.",
        tag=TAG,
        parameters=("TypePolls", *PLACE, "PollIdRequired", "IfMatch"),
        body={JSON: {"schema": POLL_REPLACEMENT, "example": examples.STORED_STARS}},
        answer=json_answer(
            POLL,
            "The poll as it is stored.",
            example=examples.STORED_STARS,
            headers=("ETag",),
        ),
        refusals=(404, 409, 412),
    ),
    "DELETE": Operation(
        id="deleteContentPoll",
        summary="Delete a poll, or withdraw a vote",
        description="`type=polls`: deletes the poll, with its sessions and all votes.\n\n"
        "`type=votes`: withdraws the caller's own vote, where the poll allows to revote.",
        tag=TAG,
        parameters=("Type", *PLACE, "PollIdRequired", "IfMatch"),
        answer=Answer(
            description="What was deleted or withdrawn.",
            content=_either(
                POLL,
                VOTE,
                examples.STORED_STARS,
                examples.STORED_VOTE,
            ),
            headers=("ETag",),
        ),
        refusals=(404, 409, 412),
    ),
}

OPERATIONS: Operations = {"/rest": REST}
