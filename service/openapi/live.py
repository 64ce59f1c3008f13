"""The operations of the page of a link."""

from service.openapi.operation import Answer, Operation, Operations
from service.web.accept import EVENT_STREAM
from service.web.bodies import FORM
from storage.errors import Code

HTML = "text/html"
TEXT = {"schema": {"type": "string"}}
FILE = Answer("The file.", {"text/css": TEXT, "text/javascript": TEXT, "image/svg+xml": TEXT})
PAGE = Answer("The page.", {HTML: TEXT})
FORM_BODY = {
    FORM: {
        "schema": {
            "type": "object",
            "properties": {
                "action": {"type": "string", "enum": ["vote", "withdraw"]},
                "option": {"type": "array", "items": {"type": "string"}},
                "comment": {"type": "string"},
                "key": {"type": "string"},
                "version": {"type": "string"},
            },
        }
    }
}
REFUSED = {
    403: "The link is not valid, has expired, or does not allow this.",
    404: "The poll is gone.",
    429: "Too many requests by links of one token, or with links that were never valid.",
    500: "An unexpected error.",
    503: "The database is unreachable.",
}
NOT_COUNTED = {
    **REFUSED,
    400: "The page, which says what is wrong with what was entered.",
    404: "The poll is gone, or there is no vote to withdraw.",
    408: "The rest of the request did not arrive in time.",
    409: "The page, which says why the vote was not counted.",
    413: "The form is too large.",
    415: "This is not the form of the page.",
}

OPERATIONS: Operations = {
    "GET /p/{link}": Operation("getPollPage", PAGE, pages=REFUSED),
    "POST /p/{link}": Operation("sendPollForm", PAGE, body=FORM_BODY, pages=NOT_COUNTED),
    "GET /p/{link}/events": Operation(
        "followPollPage",
        Answer("The page as it changes.", {EVENT_STREAM: TEXT}),
        ("Last-Event-ID",),
        refusals={
            403: (Code.BAD_TOKEN, Code.FORBIDDEN),
            429: (Code.RATE_LIMITED,),
            500: (Code.INTERNAL_ERROR,),
            503: (Code.UNAVAILABLE,),
        },
    ),
    "GET /pages/{file}": Operation("getPollPageFile", FILE),
}
