"""The operations that need no token: probes, metrics, and the document and its page."""

from schemas.shown import HEALTH
from service.openapi.operation import JSON, Answer, Operation, Operations, json_answer

TEXT = {"schema": {"type": "string"}}
ASSET = Answer(
    "The file.", {"text/javascript": TEXT, "text/css": TEXT, "image/png": {"schema": {}}}
)
ALIVE = json_answer("The process is alive.", HEALTH, {"status": "ok"})
READY = json_answer("The service is ready.", HEALTH, {"status": "ready"})
DOCUMENT = Answer("OpenAPI 3.1.", {JSON: {"schema": {"type": "object"}}})
METRICS = Answer("Text format 0.0.4.", {"text/plain": TEXT})
PAGE = Answer("The page.", {"text/html": TEXT})

OPERATIONS: Operations = {
    "GET /healthz": Operation("isAlive", ALIVE),
    "GET /readyz": Operation("isReady", READY, refusals=(503,)),
    "GET /metrics": Operation("getMetrics", METRICS),
    "GET /openapi.json": Operation("getDocument", DOCUMENT),
    "GET /docs": Operation("getPage", PAGE),
    "GET /docs/{asset}": Operation("getAsset", ASSET),
}
