"""Form fields, as Rails reads them, and JSON: both become a list of objects.

Pure, and linear in the size of the body. Clients use four notations, under the plural or the
singular name of the resource:

    poll_sessions[][course_id]=1     one object until a member repeats, then the next
    poll_sessions[0][course_id]=1
    poll_sessions[course_id][]=1     the n-th value belongs to the n-th object
    poll_sessions[course_id]=1       one object

Members whose name ends in ``_ids`` are lists: their fields end in one more ``[]``.
"""

import re
from collections.abc import Iterable
from typing import Any

from marshmallow import ValidationError

from schemas.polling import Resource

MAX_FIELDS = 1000
MAX_NAME = 1000
MEMBERS = re.compile(r"(?:\[[^\[\]]*\])*")
MEMBER = re.compile(r"\[([^\[\]]*)\]")
NAMES_NO_MEMBER = re.compile(r"(?:\[[0-9]*\])*")
INDEX = re.compile(r"[0-9]{1,9}", re.ASCII)

Objects = list[dict[str, Any]]


def read_fields(fields: Iterable[tuple[str, str]], resource: Resource) -> Objects:
    """The objects of ``resource``; other fields, and empty ones without a member, are ignored.

    Raises ``ValidationError`` if a field name of the resource is malformed, or if the fields mix
    notations.
    """
    notation: str | None = None
    objects: dict[int, dict[str, Any]] = {}
    lengths: dict[str, int] = {}
    for name, value in fields:
        root, bracket, rest = name.partition("[")
        if root not in resource or _is_empty(bracket + rest, value):
            continue
        written, place, member, is_list = _read_name(name, bracket + rest)
        if notation not in (None, written):
            raise ValidationError("uses another notation than the fields before it", name)
        notation = written
        if written == "pairs":
            place = max(len(objects) - 1, 0)
            if member in objects.get(place, ()) and not is_list:
                place += 1
        elif written == "columns":
            place = lengths[member] = lengths.get(member, -1) + 1
        members = objects.setdefault(place, {})
        if isinstance(members.get(member, [] if is_list else ""), list) != is_list:
            raise ValidationError("uses another notation than the fields before it", name)
        if is_list:
            members.setdefault(member, []).append(value)
        else:
            members[member] = value
    return [objects[place] for place in sorted(objects)]


def _is_empty(brackets: str, value: str) -> bool:
    """Whether a field of the resource says nothing; a long name is read as one that does."""
    return not value and len(brackets) <= MAX_NAME and bool(NAMES_NO_MEMBER.fullmatch(brackets))


def _read_name(name: str, brackets: str) -> tuple[str, int, str, bool]:
    """The notation of a field, the index of its object, its member, and whether that is a list."""
    if len(name) > MAX_NAME or not MEMBERS.fullmatch(brackets):
        raise ValidationError("is not a well-formed field name", name)
    notation, place, member = "", 0, ""
    parts = MEMBER.findall(brackets)
    is_list = len(parts) > 1 and parts[-1] == "" and parts[-2].endswith("_ids")
    match parts[:-1] if is_list else parts:
        case ["", member]:
            notation = "pairs"
        case [index, member] if INDEX.fullmatch(index):
            notation, place = "indexed", int(index)
        case [member, ""]:
            notation = "columns"
        case [member]:
            notation = "single"
    if not notation or not member:
        raise ValidationError("does not name a member: write it as name[][member]", name)
    return notation, place, member, is_list


def read_json(body: Any, resource: Resource) -> Objects:
    """The objects of ``resource`` in a JSON body: under either name, a list or one object."""
    if not isinstance(body, dict):
        raise ValidationError("must be an object", "body")
    for name in resource:
        if body.get(name) is not None:
            objects = body[name] if isinstance(body[name], list) else [body[name]]
            if not all(isinstance(item, dict) for item in objects):
                raise ValidationError("must be an object, or a list of objects", name)
            return objects
    return []
