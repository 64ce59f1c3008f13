"""The operations on what is held of users."""

from dataclasses import replace

from schemas.responses import ERASURE
from service.openapi.examples import HELD
from service.openapi.operation import Answer, Operation, Operations, json_answer

LINES = Answer(
    "One JSON object a line; `kind` is `user`, `enrollment`, `token`, `poll` or `vote`.",
    {"application/x-ndjson": {"schema": {"type": "string"}, "example": HELD}},
)
BEGUN = replace(json_answer("The erasure, which goes on.", ERASURE, "Location"), status=202)

OPERATIONS: Operations = {
    "GET /users/{id}/data": Operation("exportUserData", LINES),
    "DELETE /users/{id}/data": Operation(
        "eraseUserData",
        BEGUN,
        ("votes",),
        links={"getErasure": {"path.erasure_id": "$response.body#/id"}},
    ),
    "GET /erasures/{erasure_id}": Operation("getErasure", json_answer("The erasure.", ERASURE)),
}
