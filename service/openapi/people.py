"""The operations on what is held of users."""

from service.openapi.examples import HELD
from service.openapi.operation import Answer, Operation, Operations

LINES = Answer(
    "One JSON object a line; `kind` is `user`, `enrollment`, `token`, `poll` or `vote`.",
    {"application/x-ndjson": {"schema": {"type": "string"}, "example": HELD}},
)

OPERATIONS: Operations = {
    "GET /users/{id}/data": Operation("exportUserData", LINES),
}
