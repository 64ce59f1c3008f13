"""A course with users of every role, and a poll of its teacher with a session there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from service.web.call import CLOCK
from service.web.store_key import STORE
from storage.documents import EnrollmentType
from tests.conftest import ADMIN, Client, TokenMaker

COURSE, OTHER_COURSE = 10, 11
SECTION, OTHER_SECTION = 101, 102

ACTING = "acting: "
"""Before a role: an admin token acts for its user, in place of the user's own token."""
WITHIN = "within the course: "
ELSEWHERE = "in another course: "
NOWHERE = "in a workspace: "
"""So does a token with ``act`` that covers the course, another course, or only workspaces."""
SERVICES: dict[str, dict[str, Any]] = {
    WITHIN: {"courses": [COURSE]},
    ELSEWHERE: {"courses": [OTHER_COURSE]},
    NOWHERE: {"workspaces": ["*"]},
}

STUDENT: EnrollmentType = "StudentEnrollment"
TEACHER: EnrollmentType = "TeacherEnrollment"

ROLES: dict[str, tuple[int, tuple[int, int | None, EnrollmentType] | None]] = {
    "owner": (1, (COURSE, None, TEACHER)),
    "colleague": (2, (COURSE, None, TEACHER)),
    "assistant": (3, (COURSE, None, "TaEnrollment")),
    "student": (4, (COURSE, SECTION, STUDENT)),
    "neighbour": (5, (COURSE, OTHER_SECTION, STUDENT)),
    "unsectioned": (6, (COURSE, None, STUDENT)),
    "section teacher": (7, (COURSE, OTHER_SECTION, TEACHER)),
    "outside teacher": (8, (OTHER_COURSE, None, TEACHER)),
    "stranger": (9, None),
}
OWNER = ROLES["owner"][0]


class Target(NamedTuple):
    """What the paths of the routes name."""

    poll_id: int
    choice_id: int
    whole_id: int
    section_id: int
    enrollment_id: int


@dataclass
class Classroom:
    api: Client
    make_token: TokenMaker
    headers: dict[str, dict[str, str]] = field(default_factory=dict)

    async def fill(self) -> None:
        """Gives every role its token and its enrollments."""
        self.headers["admin"] = {"Authorization": f"Bearer {ADMIN}"}
        for role, (user_id, place) in ROLES.items():
            # Grants on content, even on everything, give no right to the polls of a user.
            self.headers[role] = await self.make_token(user_id=user_id, workspaces=["*"])
            if place is not None:
                await self.enroll(user_id, *place)

        for prefix, limits in SERVICES.items():
            self.headers[prefix] = await self.make_token(
                **{
                    "user_id": 99,
                    "workspaces": [],
                    "actions": ["read", "write", "vote", "act"],
                    **limits,
                }
            )

    async def enroll(
        self, user_id: int, course_id: int, section_id: int | None, kind: EnrollmentType
    ) -> int:
        wanted = {"user_id": user_id, "course_section_id": section_id, "type": kind}
        [enrollment] = await self.api.app[STORE].enrollments.add(
            course_id, [wanted], now=self.api.app[CLOCK]()
        )
        return enrollment["number"]

    async def ask(
        self,
        role: str,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        **request: Any,
    ) -> tuple[int, Any]:
        """The status and the body of a request of ``path`` under ``/api/v1``."""
        prefix, colon, acted_for = role.partition(": ")
        if colon:
            user_id, _ = ROLES[acted_for]
            request["params"] = {**request.get("params", {}), "as_user_id": str(user_id)}
            role = "admin" if prefix + colon == ACTING else prefix + colon
        sent = {**self.headers[role], **(headers or {})}
        response = await self.api.request(method, f"/api/v1{path}", headers=sent, **request)
        return response.status, await response.json() if response.status != 204 else None

    async def made(self, role: str, path: str, **members: Any) -> Any:
        """What a POST makes; the name of the resource is the end of the path."""
        root = path.rpartition("/")[2]
        status, body = await self.ask(role, "POST", path, json={root: [members]})
        assert status == 200, body
        return body[root][0] if root in body else body

    async def target(self) -> Target:
        """A poll of the owner with one choice, and with a session of the course and a section."""
        poll = f"/polls/{(await self.made('owner', '/polls', question='Tea?'))['id']}"
        choice = await self.made("owner", f"{poll}/poll_choices", text="yes", is_correct=True)
        sessions = f"{poll}/poll_sessions"
        whole = await self.made("owner", sessions, course_id=COURSE)
        section = await self.made("owner", sessions, course_id=COURSE, course_section_id=SECTION)
        enrollment_id = await self.enroll(50, COURSE, None, STUDENT)
        poll_id = int(poll.rpartition("/")[2])
        return Target(poll_id, choice["id"], whole["id"], section["id"], enrollment_id)
