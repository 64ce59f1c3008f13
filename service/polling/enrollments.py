"""Courses, their enrollments, and users (docs/api.md, section 4).

The service has no directory of courses and users: every valid id is one.
"""

from aiohttp import web

from schemas.polling import ENROLLMENTS, NEW_ENROLLMENT
from service.polling import bodies, lookups
from service.polling.responses import polling_response
from service.rules import policy, views
from service.web import pagination
from service.web.call import CLOCK, actor_of
from service.web.store_key import STORE


async def list_enrollments(request: web.Request) -> web.Response:
    """List the enrollments of a course.

    For admins. Does not list those that have ended.
    """
    caller = await lookups.read_caller(request, policy.READ)
    paging = pagination.read_paging(request)
    course_id = lookups.read_path_id(request, "course_id")
    policy.require_admin(caller)
    page = await request.app[STORE].enrollments.of_course(course_id, paging.window)
    data = [views.enrollment(enrollment) for enrollment in page.rows]
    headers = pagination.link_header(request, paging, page)
    return polling_response(request, data, headers=headers)


async def create_enrollment(request: web.Request) -> web.Response:
    """Enroll users in a course.

    For admins. Up to 1,000 are enrolled together, all or none. Does not enroll twice: repeated, it
    returns the enrollment that there is. One enrollment is answered with an object, several with a
    list, in their order.
    """
    caller = await lookups.read_caller(request, policy.WRITE)
    course_id = lookups.read_path_id(request, "course_id")
    policy.require_admin(caller)
    wanted, idempotency_key = await bodies.read_new(
        request, ENROLLMENTS, NEW_ENROLLMENT, most=bodies.MAX_ENROLLMENTS
    )
    enrolled = await request.app[STORE].enrollments.add(
        course_id,
        wanted,
        now=request.app[CLOCK](),
        idempotency_key=idempotency_key,
        actor=actor_of(request),
    )
    data = [views.enrollment(enrollment) for enrollment in enrolled]
    return polling_response(request, data if len(data) > 1 else data[0])


async def delete_enrollment(request: web.Request) -> web.Response:
    """End an enrollment.

    For admins. Does not remove what the user has submitted.
    """
    caller = await lookups.read_caller(request, policy.WRITE)
    course_id = lookups.read_path_id(request, "course_id")
    enrollment_id = lookups.read_path_id(request, "id")
    enrollments = request.app[STORE].enrollments
    await enrollments.require(course_id, enrollment_id)
    policy.require_admin(caller)
    ended = await enrollments.delete(course_id, enrollment_id, actor=actor_of(request))
    return polling_response(request, views.enrollment(ended, state="deleted"))


async def show_user(request: web.Request) -> web.Response:
    """Get a user.

    For the user themselves, and admins. Does not say whether the user exists: the name is made of
    the id.
    """
    caller = await lookups.read_caller(request, policy.READ)
    user_id = lookups.read_path_user(request)
    policy.require_self(caller, user_id)
    return polling_response(request, {"id": user_id, "name": f"User {user_id}"})


async def show_course(request: web.Request) -> web.Response:
    """Get a course.

    For users who are enrolled in it, and admins. Does not say whether the course is known
    elsewhere: its name is made of its id.
    """
    caller = await lookups.read_caller(request, policy.READ)
    course_id = lookups.read_path_id(request, "course_id")
    policy.require_enrolled(caller, course_id)
    return polling_response(request, {"id": course_id, "name": f"Course {course_id}"})
