"""One sentence for each member of each schema; a schema has those of its bases too."""

from marshmallow import Schema

from schemas import content, links, moving, polling, responses, tokens

OF_TITLE = "What is asked."
OF_COMMENT = "What the voter adds, where the poll allows comments."
OF_SECTION = "The section of the course that the session is for; null for the whole course."
OF_REVISION = "Another one whenever the rest is; also the `ETag`, and the `id` of the event."
OF_VISIBLE = "Whether all readers of the session see its results; otherwise managers alone do."
OF_ENROLLED = "The section that the user is enrolled in; null for the course as a whole."
OF_CORRECT = "Whether this is a right answer."
OF_POSITION = "The place of the choice among the others, in ascending order."
OF_NAME = "Unique among live tokens; the log shows it."
OF_WORKSPACE = "The key of the project, or the id of the space."
OF_CONTENT = "The key of the issue, or the id of the page."
OF_CONTAINER = "The id of the macro on the page; empty for an issue."
OF_IGNORED = "Ignored, so that what `GET` returned can be sent back."
OF_VOTER_KEY = "Tells under which secret the `voter` of each ballot was made."
OF_CURSOR = "The `cursor` of the next page; null on the last one."
OF_SHARE = "The share of the participants who chose it, in percent."

MEMBERS: dict[type[Schema], dict[str, str]] = {
    responses.FaultSchema: {
        "field": "The path of the member, such as `options[2].title`; null for the whole request.",
        "message": "What is wrong, for people; its words may change.",
    },
    responses.ProblemSchema: {
        "type": "Always `about:blank`: `code` tells problems apart.",
        "title": "The phrase of the status.",
        "status": "The status of the response.",
        "detail": "The message of the first entry of `errors`.",
        "code": "Why the request was refused, for programs; it keeps its meaning.",
        "errors": "What is wrong with the request, one entry for each fault.",
    },
    responses.HealthSchema: {
        "status": "`ok` while the process answers, `ready` while it should be sent requests.",
    },
    # The content API.
    content.SettingsSchema: {
        "allowSelectionOfMultipleOptions": "Whether a vote may name several options.",
        "resultsVisibility": "When users who are not managers see results: always, once they have "
        "voted, once the poll is closed, or never.",
        "endDate": "When the poll ends, as RFC 3339 with an offset, or empty; it closes the poll "
        "only with `closePollOnEndDate`.",
        "hideAbsoluteNumbers": "Whether users who are not managers see percentages without counts.",
        "allowRevote": "Whether a user may change or withdraw a vote.",
        "saveParticipantNames": "Whether votes are stored with the user who cast them.",
        "closePollOnEndDate": "Whether the poll takes no more votes from `endDate` on.",
        "allowComment": "Whether a vote may have a comment.",
        "retention": "For how many days after a session is closed its votes are kept, of which "
        "then only the counts are left; null or left out: as the service is set to keep them.",
    },
    content.OptionSchema: {
        "id": "The id of the option in its poll; left out, it is the next number.",
        "title": "What the option says.",
        "order": "The place of the option among the others; left out, its place in the list.",
    },
    content.NewPollSchema: {
        "id": "The id of the poll, where it is moved from elsewhere; left out, a new one.",
        "title": OF_TITLE,
        "description": "More about the question.",
        "options": "What can be voted for, each once.",
        "settings": "How the poll is run; members may be left out.",
    },
    content.PollReplacementSchema: {
        "id": "The id of the poll, which cannot change.",
        "options": "What can be voted for from now on; options that have votes must stay.",
        **dict.fromkeys(content.SHOWN_MEMBERS, OF_IGNORED),
    },
    content.PollReferenceSchema: {
        "workspace": OF_WORKSPACE,
        "content": OF_CONTENT,
        "container": "The id of the macro on the page; empty or absent for an issue.",
        "pollId": "The id of one poll, in place of the others.",
    },
    content.NewPlaceSchema: {
        "workspace": "The workspace that the copy goes to; left out with the others, the same.",
        "content": OF_CONTENT,
        "container": "The id of the macro on the page; empty or absent for an issue.",
    },
    content.PollsQuerySchema: {
        "polls": "One reference for each list of polls in the answer.",
        "expand": "What to add to each poll.",
    },
    content.NewVoteSchema: {
        "optionIds": "The ids of the chosen options: one, unless the poll takes several.",
        "comment": OF_COMMENT,
    },
    moving.MovedOptionSchema: {"isCorrect": OF_CORRECT},
    moving.MovedBallotSchema: {
        "id": "The id of the submission; left out, a new one.",
        "userId": "Who voted; stored only where names are saved.",
        "voter": "In place of `userId`, the keyed hash by which an export tells voters apart.",
        "optionIds": "What was chosen, each once.",
        "comment": OF_COMMENT,
        "createdAt": "When the vote was cast; left out, now.",
        "updatedAt": "When it was changed last; left out, `createdAt`.",
    },
    moving.MovedSessionSchema: {
        "id": "The id of the session; the standing session can do without.",
        "courseId": "The course that the session is in; absent in the standing session.",
        "courseSectionId": OF_SECTION,
        "isPublished": "Whether the session is open; left out, only the standing session is.",
        "hasEnded": "Whether the end date of the poll has closed it.",
        "hasPublicResults": OF_VISIBLE,
        "createdAt": "When the session was created.",
        "closedAt": "When the session was closed, if it is.",
        "countsOnly": "Whether the votes are not kept any more, only how many there were.",
        "isFinal": "Whether it stays closed, since it was moved without its voters.",
        "results": "Votes by option; unless `countsOnly`, what is stored is counted from the "
        "ballots.",
        "participants": "How many ballots there are with those of lines that follow.",
        "ballots": "The votes, or the first of them.",
    },
    moving.PollLineSchema: {
        "id": "The id of the poll; left out, `number` names it.",
        "number": "The number of the poll, its id under `/api/v1`; left out, a new one.",
        "workspace": OF_WORKSPACE,
        "content": OF_CONTENT,
        "container": OF_CONTAINER,
        "highestOption": "The highest number that an option of the poll ever had as its id.",
        "createdBy": "The id of the user who created the poll; left out, the caller.",
        "createdAt": "When the poll was created; left out, now.",
        "voterKey": OF_VOTER_KEY,
        "sessions": "The sessions of the poll, or the first of them.",
    },
    moving.SessionsLineSchema: {
        "pollId": "The poll of an earlier line.",
        "voterKey": OF_VOTER_KEY,
        "sessions": "More sessions of the poll.",
    },
    moving.BallotsLineSchema: {
        "pollId": "The poll of an earlier line.",
        "sessionId": "The session of an earlier line; left out, the standing session.",
        "voterKey": OF_VOTER_KEY,
        "ballots": "More votes of the session.",
    },
    responses.LineAnswerSchema: {
        "line": "The number of the line, from 1.",
        "status": "The status of the line, as of a request of its own.",
        "id": "The id of its poll.",
        "number": "The number of its poll.",
        "result": "Whether the line created something, or all of it was there.",
        "type": "Of a refusal: always `about:blank`.",
        "title": "Of a refusal: the phrase of the status.",
        "detail": "Of a refusal: the message of the first entry of `errors`.",
        "code": "Of a refusal: why, for programs.",
        "errors": "Of a refusal: what is wrong with the line, one entry for each fault.",
    },
    links.NewLinkSchema: {
        "actions": "What the link is for: `view`, or `view` and `vote`.",
        "expiresIn": "How many seconds the link lasts.",
    },
    responses.LinkSchema: {
        "url": "The page, for a browser.",
        "expiresAt": "When the link ends at the latest.",
    },
    responses.ShownOptionSchema: {
        "id": "The id of the option, unique in its poll.",
        "title": "What the option says.",
        "order": "The place of the option among the others, in ascending order.",
    },
    responses.PollSchema: {
        "id": "The id of the poll; `poll_id` under `/api/v1` takes it too.",
        "title": "What is asked.",
        "description": "More about the question; may be empty.",
        "options": "What can be voted for, by `order`.",
        "settings": "How the poll is run.",
    },
    responses.ExpandedPollSchema: {
        "results": "With `results` in `expand`, where the caller may see them.",
        "vote": "The caller's own vote as `GET /rest/votes` shows it; null without one, and for "
        "tokens without `vote`.",
        "hasVoted": "Whether the caller has voted.",
        "canVote": "Whether a first vote of the caller would be taken now.",
        "canChange": "Whether the caller may replace or withdraw their vote now.",
        "canWrite": "Whether the caller may change and delete the poll.",
    },
    responses.WorkspacePollSchema: {
        "workspace": OF_WORKSPACE,
        "content": OF_CONTENT,
        "container": OF_CONTAINER,
        "createdBy": "The id of the user who created the poll.",
        "createdAt": "When the poll was created.",
        "updatedAt": "When the poll was changed, opened or closed last.",
        "state": "Whether the poll takes votes; null for a poll made under `/api/v1`.",
    },
    responses.WorkspacePollsSchema: {
        "polls": "The polls of this page.",
        "nextCursor": OF_CURSOR,
    },
    responses.OptionResultSchema: {
        "votes": "How many votes name the option; null where absolute numbers are hidden.",
        "percentage": OF_SHARE,
    },
    responses.ResultsSchema: {
        "options": "The result of each option, by its id.",
        "votes": "How often options were chosen, all together; null where numbers are hidden.",
        "participants": "How many users have voted; null where numbers are hidden.",
        "closed": "Whether the poll takes no votes now.",
    },
    responses.ResultsOfPollSchema: {
        "pollId": "The id of the poll.",
        "sessionId": "The id of its standing session, under `/api/v1`.",
        "closed": "Whether the poll takes no votes now.",
        "results": "The votes, as this caller may see them at this moment.",
        "revision": OF_REVISION,
    },
    responses.VoteSchema: {
        "pollId": "The id of the poll.",
        "userId": "Who voted; null where that is not shown.",
        "optionIds": "The ids of the chosen options; null where they are not shown.",
        "comment": "What the voter added, if anything; null where it is not shown.",
        "createdAt": "When the user first voted, without a name the day; null where not shown.",
        "updatedAt": "When the user last changed the vote; null where that is not shown.",
    },
    # The polling API.
    polling.PollChanges: {
        "question": OF_TITLE,
        "description": "More about the question.",
    },
    polling.ChoiceChanges: {
        "text": "What the choice says.",
        "is_correct": OF_CORRECT,
        "position": OF_POSITION,
    },
    polling.NewChoice: {
        "position": "The place of the choice among the others; left out, it comes last.",
    },
    polling.SessionChanges: {
        "course_id": "The course that the session is for, one that the caller teaches.",
        "course_section_id": OF_SECTION,
        "has_public_results": OF_VISIBLE,
    },
    polling.NewSession: {
        "course_id": "The course that the session is for, one that the caller teaches.",
        "course_section_id": OF_SECTION,
        "has_public_results": OF_VISIBLE,
    },
    polling.NewSubmission: {
        "poll_choice_id": "The id of the chosen choice, as a number or a string.",
        "poll_choice_ids": "The ids of all chosen choices, in place of one object for each.",
        "comment": OF_COMMENT,
    },
    polling.NewEnrollment: {
        "user_id": "The user to enroll.",
        "type": "What the user is in the course; left out, a student.",
        "course_section_id": OF_ENROLLED,
    },
    responses.ShownPollSchema: {
        "id": "The number of the poll.",
        "question": "What is asked.",
        "description": "More about the question; may be empty.",
        "created_at": "When the poll was created.",
        "user_id": "Who created the poll; for managers only.",
        "total_results": "Submissions by the id of the choice, in all sessions; for managers only.",
    },
    responses.ShownChoiceSchema: {
        "id": "The id of the choice: a number, or a string where it was given one.",
        "poll_id": "The number of its poll.",
        "text": "What the choice says.",
        "position": OF_POSITION,
        "is_correct": OF_CORRECT,
    },
    responses.SessionMembers: {
        "id": "The id of the session.",
        "poll_id": "The number of its poll.",
        "course_id": "The course that the session is for; null for the standing session.",
        "course_section_id": OF_SECTION,
        "is_published": "Whether the session is open.",
        "created_at": "When the session was created.",
    },
    responses.ShownSessionSchema: {
        "has_submitted": "Whether the caller has submitted to the session.",
        "poll_submissions": "The submissions that the caller may see; null in lists, unless "
        "included, and where there are too many.",
        "has_public_results": OF_VISIBLE,
        "results": "Submissions by the id of the choice, where the caller may see them.",
        "result_shares": "Whole percents by the id of the choice, where numbers are hidden.",
    },
    responses.ResultsOfSessionSchema: {
        "pollId": "The number of the poll.",
        "sessionId": "The id of the session.",
        "closed": "Whether the session takes no votes now.",
        "results": "Submissions by the id of the choice.",
        "result_shares": "Whole percents by the id of the choice, where numbers are hidden.",
        "revision": OF_REVISION,
    },
    responses.ShownSubmissionSchema: {
        "id": "The id of the submission; null where it is not shown.",
        "poll_session_id": "The id of its session.",
        "poll_choice_id": "The id of the choice, of several the first; null where not shown.",
        "user_id": "Who submitted it; null where that is not shown.",
        "created_at": "When it was submitted, without a name the day; null where not shown.",
        "poll_choice_ids": "All chosen choices, where several may be; null where not shown.",
        "comment": "What the user added, where the poll allows comments; null without one.",
    },
    responses.ExportedPollSchema: {
        "id": "The number of the poll.",
        "question": "What is asked.",
    },
    responses.ExportedSessionSchema: {
        "participants": "How many users have submitted.",
    },
    responses.CountedChoiceSchema: {
        "votes": "How many submissions chose it.",
        "percentage": OF_SHARE,
    },
    responses.ExportSchema: {
        "poll": "The poll of the session.",
        "poll_session": "The session, as of one moment.",
        "poll_choices": "The choices with their votes, by `position`.",
        "poll_submissions": "All submissions; null where names are not saved.",
    },
    responses.EnrollmentSchema: {
        "id": "The id of the enrollment.",
        "user_id": "The user who is enrolled.",
        "course_id": "The course.",
        "course_section_id": OF_ENROLLED,
        "type": "What the user is in the course.",
        "enrollment_state": "`active`, or `deleted` in the answer to `DELETE`.",
    },
    responses.UserSchema: {
        "id": "The id of the user.",
        "name": "A name made of the id: there is no directory of users.",
    },
    responses.CourseSchema: {
        "id": "The id of the course.",
        "name": "A name made of the id: there is no directory of courses.",
    },
    # Tokens.
    tokens.NewTokenSchema: {
        "name": OF_NAME,
        "userId": "The user that the token belongs to.",
        "admin": "Whether the token may do everything, everywhere; then it has no limits.",
        "actions": "What the token allows; left out, `read`, `write` and `vote`.",
        "workspaces": "The workspaces of `/rest` that the token covers, or `*`; left out, none.",
        "courses": "The courses that the action `act` is for, or `*`; left out, none.",
        "polls": "The ids of the only polls that the token reaches; left out, it is not so bound.",
        "expiresIn": "In how many seconds the token expires; left out, `expiresAt` counts.",
        "expiresAt": "When the token expires, as RFC 3339 with an offset; empty or left out, "
        "never.",
    },
    responses.TokenSchema: {
        "name": OF_NAME,
        "userId": "The user that the token belongs to.",
        "admin": "Whether the token may do everything, everywhere.",
        "actions": "What the token allows.",
        "workspaces": "The workspaces of `/rest` that the token covers, or `*`.",
        "courses": "The courses that the action `act` is for, or `*`.",
        "polls": "The ids of the only polls that the token reaches; empty if it is not so bound.",
        "createdAt": "When the token was created.",
        "expiresAt": "When the token expires; null for never.",
    },
    responses.CreatedTokenSchema: {
        "secret": "What requests carry; shown this once, null when the request is repeated.",
    },
    # Data of users.
    responses.ErasedCountsSchema: {
        "enrollments": "How many enrollments were ended.",
        "tokens": "How many tokens were removed.",
        "polls": "How many polls have passed to user 0.",
        "sessions": "How many sessions were looked through for votes.",
        "votes": "How many votes were found in them, and anonymized or withdrawn.",
    },
    responses.ErasureSchema: {
        "id": "The id of the erasure.",
        "state": "Whether it is still going on.",
        "step": "What is being done: the end of enrollments and tokens, the polls, the votes, what "
        "is kept of requests; null when all is done.",
        "votes": "What becomes of the votes.",
        "counts": "How far it is.",
        "createdAt": "When it was asked for.",
        "updatedAt": "When it made progress last.",
        "finishedAt": "When it was done; null before.",
    },
    # The audit.
    responses.ActorSchema: {
        "userId": "The user of the token, or the one that it acted for.",
        "token": "The name of the token; null for commands, and for the service itself.",
    },
    responses.AuditEntrySchema: {
        "id": "The id of the entry.",
        "at": "When it was done.",
        "action": "What was done, such as `poll.changed`.",
        "actor": "Who did it.",
        "pollId": "The poll.",
        "sessionId": "The session.",
        "courseId": "The course of the session or of the enrollments.",
        "enrollmentId": "The enrollment that ended.",
        "token": "The name of the token that was created or revoked.",
        "changed": "The names of the members that changed, not their values.",
        "count": "How many enrollments were made at once.",
    },
    responses.AuditSchema: {
        "entries": "What was done, newest first.",
        "nextCursor": OF_CURSOR,
    },
}


def description_of(schema: Schema, member: str) -> str | None:
    """That of the nearest class with one."""
    told = (MEMBERS.get(kind, {}).get(member) for kind in type(schema).__mro__)
    return next(filter(None, told), None)
