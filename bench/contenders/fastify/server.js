// The same service as one writes it with Fastify and the MongoDB driver.
//
// JSON schemas for what comes in and goes out, one pooled client, the token in a hook. A vote is an
// insert under a unique key, then an increment: two writes, without a transaction around them.
// MONGODB_URI and POLLS_SECRET say on which store; it holds what FastAPI and Beanie's holds.

import { createHash, createHmac, randomInt } from "node:crypto";
import Fastify from "fastify";
import { MongoClient } from "mongodb";

const DUPLICATE_KEY = 11000;
const MAX_ID = Number.MAX_SAFE_INTEGER;

const text = (maxLength) => ({ type: "string", minLength: 1, maxLength });
const strings = { type: "array", items: { type: "string" } };

const address = {
  workspace: text(255),
  content: text(255),
  as_user_id: { type: "integer", minimum: 1, maximum: MAX_ID },
};
const pollsQuery = {
  type: "object",
  required: ["type", "workspace", "content"],
  properties: { type: { const: "polls" }, ...address },
};
const votesQuery = {
  type: "object",
  required: ["type", "workspace", "content", "pollId"],
  properties: { type: { const: "votes" }, ...address, pollId: text(255) },
};
const pollOut = {
  type: "object",
  properties: {
    id: { type: "string" },
    title: { type: "string" },
    description: { type: "string" },
    options: {
      type: "array",
      items: {
        type: "object",
        properties: {
          id: { type: "string" },
          title: { type: "string" },
          order: { type: "integer" },
        },
      },
    },
    settings: {
      type: "object",
      properties: {
        allowSelectionOfMultipleOptions: { type: "boolean" },
        resultsVisibility: { type: "string" },
        endDate: { type: "string" },
        hideAbsoluteNumbers: { type: "boolean" },
        allowRevote: { type: "boolean" },
        saveParticipantNames: { type: "boolean" },
        closePollOnEndDate: { type: "boolean" },
        allowComment: { type: "boolean" },
      },
    },
  },
};
const voteIn = {
  type: "object",
  required: ["optionIds"],
  properties: {
    optionIds: { ...strings, minItems: 1, maxItems: 100, uniqueItems: true },
    comment: { type: ["string", "null"], maxLength: 1000 },
  },
};
const voteOut = {
  type: "object",
  properties: {
    pollId: { type: "string" },
    userId: { type: ["integer", "null"] },
    optionIds: strings,
    comment: { type: ["string", "null"] },
    createdAt: { type: "string", format: "date-time" },
    updatedAt: { type: "string", format: "date-time" },
  },
};

const client = new MongoClient(process.env.MONGODB_URI, {
  readConcern: { level: "majority" },
  writeConcern: { w: "majority", j: true },
});
await client.connect();
const database = client.db();
const tokens = database.collection("tokens");
const containers = database.collection("containers");
const sessions = database.collection("sessions");
const ballots = database.collection("ballots");

const app = Fastify({ logger: true });
app.decorateRequest("userId", 0);
app.addHook("onClose", () => client.close());

app.get(
  "/rest",
  {
    schema: { querystring: pollsQuery, response: { 200: { type: "array", items: pollOut } } },
    preHandler: (request) => identify(request, "read"),
  },
  async (request) => pollsOf(request.query),
);

app.post(
  "/rest",
  {
    schema: { querystring: votesQuery, body: voteIn, response: { 200: voteOut } },
    preHandler: (request) => identify(request, "vote"),
  },
  async (request) => {
    const polls = await pollsOf(request.query);
    const poll = polls.find(({ id }) => id === request.query.pollId);
    if (!poll) {
      throw refusal(404, "There is no such poll.");
    }
    const ballot = await cast(poll, request.body, request.userId);
    return {
      pollId: poll.id,
      userId: request.userId,
      optionIds: ballot.choices,
      comment: ballot.comment,
      createdAt: ballot.created_at,
      updatedAt: ballot.updated_at,
    };
  },
);

async function identify(request, action) {
  const secret = (request.headers.authorization ?? "").replace(/^Bearer /, "");
  const token = await tokens.findOne({ _id: createHash("sha256").update(secret).digest("hex") });
  const expired = token?.expires_at && token.expires_at <= new Date();
  if (!token || token.revoked_at || expired) {
    throw refusal(403, "The token is unknown, revoked or expired.");
  }
  const { as_user_id: actsFor, workspace } = request.query;
  if (actsFor !== undefined && !token.admin) {
    throw refusal(403, "as_user_id is for admin tokens.");
  }
  const covers = token.workspaces.includes(workspace) || token.workspaces.includes("*");
  if (!token.admin && !(token.actions.includes(action) && covers)) {
    throw refusal(403, "This token does not carry that.");
  }
  request.userId = actsFor ?? token.user_id;
}

async function pollsOf({ workspace, content }) {
  const container = await containers.findOne({ _id: `${workspace}\x1f${content}\x1f` });
  return container?.polls ?? [];
}

async function cast(poll, vote, userId) {
  const now = new Date();
  const session = await sessions.findOne({ _id: poll.standing_session });
  requireValid(session, vote, now);
  const ballot = {
    _id: ballotId(session._id, userId),
    session_id: session._id,
    number: randomInt(1, 2 ** 48 - 1),
    user_id: session.settings.saveParticipantNames ? userId : null,
    choices: vote.optionIds,
    comment: vote.comment ?? null,
    created_at: now,
    updated_at: now,
  };
  try {
    await ballots.insertOne(ballot);
  } catch (error) {
    if (error.code === DUPLICATE_KEY) {
      throw refusal(409, "can only submit one choice per poll session.");
    }
    throw error;
  }
  const counts = Object.fromEntries(vote.optionIds.map((option) => [`results.${option}`, 1]));
  await sessions.updateOne({ _id: session._id }, { $inc: { ...counts, participants: 1 } });
  return ballot;
}

function requireValid(session, vote, now) {
  if (!session) {
    throw refusal(404, "There is no such poll session.");
  }
  if (!session.is_published || (session.closes_at && session.closes_at <= now)) {
    throw refusal(409, "This poll session is not open for submissions.");
  }
  const { settings, results } = session;
  const several = vote.optionIds.length > 1 && !settings.allowSelectionOfMultipleOptions;
  if (several || vote.optionIds.some((option) => !Object.hasOwn(results, option))) {
    throw refusal(400, "optionIds do not fit the poll.");
  }
  if (vote.comment && !settings.allowComment) {
    throw refusal(400, "This poll takes no comments.");
  }
}

function ballotId(sessionId, userId) {
  const voter = createHmac("sha256", process.env.POLLS_SECRET)
    .update(`voter:${sessionId}:${userId}`)
    .digest("hex");
  return `${sessionId}:${voter}`;
}

function refusal(statusCode, message) {
  return Object.assign(new Error(message), { statusCode });
}

process.once("SIGTERM", () => app.close());
await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT ?? 0) });
