"""The operations on tokens."""

from schemas.responses import CREATED_TOKEN, TOKEN
from schemas.tokens import NEW_TOKEN
from service.openapi.operation import Operation, Operations, json_answer, json_content, list_of
from storage.errors import Code

CREATED = json_answer("The new token, with its secret.", CREATED_TOKEN)
REVOKED = json_answer("The revoked token.", TOKEN)
LISTED = json_answer("A page of tokens.", list_of(TOKEN), "Link")

OPERATIONS: Operations = {
    "GET /tokens": Operation("listTokens", LISTED),
    "POST /tokens": Operation(
        "createToken", CREATED, body=json_content(NEW_TOKEN), refusals={409: (Code.CONFLICT,)}
    ),
    "DELETE /tokens/{name}": Operation("revokeToken", REVOKED),
}
