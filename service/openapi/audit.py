"""The operation on the audit."""

from schemas.responses import AUDIT
from service.openapi.operation import Operation, Operations, json_answer

ENTRIES = json_answer("A page of entries.", AUDIT, "Link")

OPERATIONS: Operations = {
    "GET /audit": Operation("listAudit", ENTRIES, ("auditedPollId", "since", "limit", "cursor")),
}
