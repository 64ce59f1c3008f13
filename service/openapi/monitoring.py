"""The operations that need no token: probes, metrics, this document and its page."""

from schemas.responses import HEALTH
from service.openapi.operation import Answer, Operation, Operations
from service.web.bodies import JSON
from storage.errors import Code

TEXT = {"schema": {"type": "string"}}
ASSET = Answer(
    "The file.", {"text/javascript": TEXT, "text/css": TEXT, "image/png": {"schema": {}}}
)
ALIVE = Answer("The process is alive.", {JSON: {"schema": HEALTH, "example": {"status": "ok"}}})
READY = Answer("The service is ready.", {JSON: {"schema": HEALTH, "example": {"status": "ready"}}})
DOCUMENT = Answer("OpenAPI 3.1.", {JSON: {"schema": {"type": "object"}}})
METRICS = Answer("Text format 0.0.4.", {"text/plain": TEXT})
INDEX = Answer("The page.", {"text/html": TEXT})
PAGE = Answer("The page.", {"text/html": TEXT})

OPERATIONS: Operations = {
    "GET /": Operation("getIndex", INDEX),
    "GET /healthz": Operation("isAlive", ALIVE),
    "GET /readyz": Operation("isReady", READY, refusals={503: (Code.UNAVAILABLE,)}),
    "GET /metrics": Operation("getMetrics", METRICS),
    "GET /openapi.json": Operation("getDocument", DOCUMENT),
    "GET /docs": Operation("getPage", PAGE),
    "GET /docs/{asset}": Operation("getAsset", ASSET),
}
