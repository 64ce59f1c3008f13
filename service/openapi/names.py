"""The names of schemas in the document, from which generators of clients make names of types."""

from marshmallow import Schema

from schemas import content, polling, responses

NAMES: dict[type[Schema], str] = {
    content.NewPollSchema: "NewContentPoll",
    content.PollReplacementSchema: "ContentPollReplacement",
    content.OptionSchema: "NewContentOption",
    content.SettingsSchema: "NewContentSettings",
    content.NewVoteSchema: "NewContentVote",
    content.PollReferenceSchema: "PollReference",
    responses.PollSchema: "ContentPoll",
    responses.ExpandedPollSchema: "ExpandedContentPoll",
    responses.ShownOptionSchema: "ContentOption",
    responses.ShownSettingsSchema: "ContentSettings",
    responses.VoteSchema: "ContentVote",
    responses.ResultsSchema: "ContentResults",
    responses.OptionResultSchema: "ContentOptionResult",
    responses.ResultsOfPollSchema: "ResultsOfContentPoll",
    polling.NewChoice: "NewPollChoice",
    polling.ChoiceChanges: "PollChoiceChanges",
    polling.NewSession: "NewPollSession",
    polling.SessionChanges: "PollSessionChanges",
    polling.NewSubmission: "NewPollSubmission",
    responses.ShownPollSchema: "Poll",
    responses.ShownChoiceSchema: "PollChoice",
    responses.ShownSessionSchema: "PollSession",
    responses.ShownSubmissionSchema: "PollSubmission",
    responses.CountedChoiceSchema: "ExportedPollChoice",
    responses.ExportedSessionSchema: "ExportedPollSession",
}
"""Where that of the class would not do: both APIs have polls, and what goes in differs."""


def component_name(schema: Schema | type[Schema]) -> str:
    cls = schema if isinstance(schema, type) else type(schema)
    return NAMES.get(cls) or cls.__name__.removesuffix("Schema")
