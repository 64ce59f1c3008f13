"""The content API: polls, votes and results, each at a path of its own."""

from schemas.content import NEW_POLL, NEW_VOTE, POLL_REPLACEMENT
from schemas.shown import EXPANDED_POLL, POLL, RESULTS_OF_POLL, VOTE
from service.openapi import examples
from service.openapi.operation import JSON, Operation, Operations, json_answer, list_of

TAG = "Content polls"
PLACE = ("Workspace", "Content", "Container")

OPERATIONS: Operations = {
    "/rest/polls": {
        "GET": Operation(
            id="listContentPolls",
            summary="List the polls of a content",
            description="All polls of the content, oldest first; with `pollId` a list of that one, "
            "and an `ETag`.",
            tag=TAG,
            parameters=(*PLACE, "PollIdAsked", "Expand"),
            answer=json_answer(
                list_of(EXPANDED_POLL),
                "The polls.",
                example=[examples.STORED_STARS],
                headers=("ETag",),
            ),
            refusals=(404,),
        ),
        "POST": Operation(
            id="createContentPoll",
            summary="Create a poll",
            description="What is left out gets its default, options without an `id` are numbered. "
            "The `id` of a poll is kept if no poll has it.",
            tag=TAG,
            parameters=(*PLACE, "PollIdAsked"),
            body={JSON: {"schema": NEW_POLL, "example": examples.STARS}},
            answer=json_answer(
                POLL,
                "The poll as it is stored.",
                example=examples.STORED_STARS,
                headers=("ETag",),
            ),
            leads_to={
                name: {
                    "query.workspace": "$request.query.workspace",
                    "query.content": "$request.query.content",
                    "query.pollId": "$response.body#/id",
                }
                for name in (
                    *("listContentPolls", "replaceContentPoll", "deleteContentPoll"),
                    *("castVote", "listVotes", "getResults"),
                )
            },
        ),
        "PUT": Operation(
            id="replaceContentPoll",
            summary="Replace a poll",
            description="The poll is replaced whole; what `GET` answered can be sent back "
            "unchanged. An option that has votes cannot be dropped.",
            tag=TAG,
            parameters=(*PLACE, "PollIdRequired", "IfMatch"),
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
            summary="Delete a poll, with its sessions and all votes",
            tag=TAG,
            parameters=(*PLACE, "PollIdRequired", "IfMatch"),
            answer=json_answer(
                POLL,
                "The poll that was deleted.",
                example=examples.STORED_STARS,
                headers=("ETag",),
            ),
            refusals=(404, 409, 412),
        ),
    },
    "/rest/votes": {
        "GET": Operation(
            id="listVotes",
            summary="List votes in a poll",
            description="The caller's own vote. Callers with `write` on the workspace get all "
            "votes, in pages, where names are saved.",
            tag=TAG,
            parameters=(*PLACE, "PollIdRequired", "Page", "PerPage"),
            answer=json_answer(
                list_of(VOTE), "The votes.", example=[examples.STORED_VOTE], headers=("Link",)
            ),
            refusals=(404, 409),
        ),
        "POST": Operation(
            id="castVote",
            summary="Cast the caller's vote",
            description="Where the poll has `allowRevote`, it replaces the vote before.",
            tag=TAG,
            parameters=(*PLACE, "PollIdRequired"),
            body={JSON: {"schema": NEW_VOTE, "example": examples.VOTE}},
            answer=json_answer(VOTE, "The vote as it is stored.", example=examples.STORED_VOTE),
            refusals=(404,),
        ),
        "DELETE": Operation(
            id="withdrawVote",
            summary="Withdraw the caller's vote, where the poll has `allowRevote`",
            tag=TAG,
            parameters=(*PLACE, "PollIdRequired"),
            answer=json_answer(VOTE, "The vote that was.", example=examples.STORED_VOTE),
            refusals=(404, 409),
        ),
    },
    "/rest/results": {
        "GET": Operation(
            id="getResults",
            summary="Get the results of a poll",
            description="403 where the caller may not see them, or not yet.",
            tag=TAG,
            parameters=(*PLACE, "PollIdRequired"),
            answer=json_answer(RESULTS_OF_POLL, "The results.", example=examples.RESULTS_OF_STARS),
            refusals=(404, 409),
        ),
    },
}
