"""What needs no token: probes, and the document and its page."""

from schemas.shown import HEALTH
from service.openapi.operation import Answer, Operation, Operations, json_answer

TAG = "Operation"
TEXT = {"type": "string"}

OPERATIONS: Operations = {
    "/healthz": {
        "GET": Operation(
            id="isAlive",
            summary="Whether the process answers",
            tag=TAG,
            answer=json_answer(HEALTH, "It does.", example={"status": "ok"}),
        ),
    },
    "/readyz": {
        "GET": Operation(
            id="isReady",
            summary="Whether requests should be sent here",
            description="The database answers, and no stop has begun.",
            tag=TAG,
            answer=json_answer(HEALTH, "They should.", example={"status": "ready"}),
            refusals=(503,),
        ),
    },
    "/metrics": {
        "GET": Operation(
            id="getMetrics",
            summary="What the service has done, for Prometheus",
            description="Meant for an inner network: what it tells is no business of strangers.",
            tag=TAG,
            answer=Answer(
                description="The text format, 0.0.4.", content={"text/plain": {"schema": TEXT}}
            ),
        ),
    },
    "/openapi.json": {
        "GET": Operation(
            id="getDocument",
            summary="This document",
            tag=TAG,
            answer=json_answer({"type": "object"}, "OpenAPI 3.1."),
        ),
    },
    "/docs": {
        "GET": Operation(
            id="getPage",
            summary="A page that explores this document and tries requests",
            tag=TAG,
            answer=Answer(description="HTML.", content={"text/html": {"schema": TEXT}}),
        ),
    },
    "/docs/{asset}": {
        "GET": Operation(
            id="getAsset",
            summary="A file that the page needs",
            tag=TAG,
            answer=Answer(
                description="The file.",
                content={
                    "text/javascript": {"schema": TEXT},
                    "text/css": {"schema": TEXT},
                    "image/png": {"schema": {}},
                },
            ),
        ),
    },
}
