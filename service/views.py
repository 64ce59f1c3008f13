"""What a face shows of a stored document: pure, one function a view.

Reads do not pay for marshmallow; a property test holds each view equal to its schema's dump.
"""

from typing import Any

from storage.documents import OptionDocument, PollDocument


def content_poll(poll: PollDocument) -> dict[str, Any]:
    """The Poll of ``/rest``: options by ``order``, equal ones as they were sent."""
    return {
        "id": poll["id"],
        "title": poll["title"],
        "description": poll["description"],
        "options": [
            {"id": option["id"], "title": option["title"], "order": option["order"]}
            for option in sorted(poll["options"], key=_order)
        ],
        "settings": poll["settings"],
    }


def _order(option: OptionDocument) -> int:
    return option["order"]
