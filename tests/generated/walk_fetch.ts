// Poll, vote, results, session, export: with the types of openapi-typescript, through openapi-fetch.
import createClient from "openapi-fetch";
import type { paths } from "./api";

declare const process: { argv: string[] };
const [, , url, token] = process.argv;

const api = createClient<paths>({
  baseUrl: url,
  headers: { Authorization: `Bearer ${token}` },
});

function done<T>(answer: { data?: T; error?: unknown }): T {
  if (answer.data === undefined) throw new Error(JSON.stringify(answer.error));
  return answer.data;
}

function expect(found: unknown, expected: unknown): void {
  if (found !== expected) throw new Error(`${found} is not ${expected}`);
}

async function walk(): Promise<void> {
  const place = { workspace: "PLAT", content: "PLAT-3" };
  const settings = { endDate: "2099-12-31T18:00:00+01:00", saveParticipantNames: true };
  const options = [{ title: "Tea" }, { title: "Coffee" }];
  const poll = done(
    await api.POST("/rest/polls", {
      params: { query: place },
      body: { title: "Tea or coffee?", options, settings },
    }),
  );
  expect(poll.settings.endDate, settings.endDate);
  expect(poll.options[1]?.id, "2");

  const one = { params: { query: { ...place, pollId: poll.id } } };
  const vote = done(await api.POST("/rest/votes", { ...one, body: { optionIds: ["2"] } }));
  expect(vote.optionIds?.[0], "2");
  const again = await api.POST("/rest/votes", { ...one, body: { optionIds: ["1"] } });
  expect(again.error?.code === "already_voted", true);
  const results = done(await api.GET("/rest/results", one));
  if (typeof results === "string") throw new Error("without Accept: text/event-stream it is JSON");
  expect(results.results.options["2"]?.votes, 1);
  const listed = done(
    await api.GET("/rest/polls", { params: { query: { ...place, expand: "results" } } }),
  );
  if (!Array.isArray(listed)) throw new Error("a content has a list of polls");
  expect(listed[0]?.results?.votes, 1);
  const page = done(await api.GET("/rest/polls", { params: { query: { workspace: "PLAT" } } }));
  if (Array.isArray(page)) throw new Error("a workspace has pages of polls");
  expect(page.polls.some((one) => one.id === poll.id && one.state === "open"), true);
  const body = { polls: [place, { pollId: poll.id }], expand: ["vote" as const] };
  for (const found of done(await api.POST("/rest/query", { body }))) {
    if (!Array.isArray(found)) throw new Error(found.detail);
    expect(found.find((one) => one.id === poll.id)?.vote?.optionIds?.[0], "2");
  }

  const path = { poll_id: poll.id };
  const [session] = done(
    await api.POST("/api/v1/polls/{poll_id}/poll_sessions", {
      params: { path },
      body: { poll_sessions: [{ course_id: 1 }] },
    }),
  ).poll_sessions;
  if (session === undefined) throw new Error("no session");
  const inSession = { params: { path: { ...path, id: session.id } } };
  done(await api.PUT("/api/v1/polls/{poll_id}/poll_sessions/{id}/open", inSession));
  const submitted = done(
    await api.POST("/api/v1/polls/{poll_id}/poll_sessions/{poll_session_id}/poll_submissions", {
      params: { path: { ...path, poll_session_id: session.id } },
      body: { poll_submissions: [{ poll_choice_id: 1 }] },
    }),
  );
  expect(submitted.poll_submissions[0]?.poll_choice_id, 1);
  const shown = done(await api.GET("/api/v1/polls/{poll_id}/poll_sessions/{id}", inSession));
  expect(shown.poll_sessions[0]?.results?.["1"], 1);

  const exporting = "/api/v1/polls/{poll_id}/poll_sessions/{id}/export";
  const inForm = (format: "csv" | "json") => ({
    params: { ...inSession.params, query: { format } },
  });
  const rows = done(await api.GET(exporting, { ...inForm("csv"), parseAs: "text" }));
  expect(rows.includes("Coffee"), true);
  const exported = done(await api.GET(exporting, inForm("json")));
  if (typeof exported === "string") throw new Error("JSON is an object");
  expect(exported.poll_choices[0]?.votes, 1);

  const token = done(
    await api.POST("/tokens", {
      body: { name: "page of user 43", userId: 43, actions: ["read"], polls: [poll.id], expiresIn: 900 },
    }),
  );
  expect(token.secret?.startsWith("polls_"), true);
  const revoked = done(
    await api.DELETE("/tokens/{name}", { params: { path: { name: token.name } } }),
  );
  expect(revoked.userId, 43);

  const byName = { params: { query: { ...one.params.query, as_user_id: "u42" } } };
  const theirs = done(await api.POST("/rest/votes", { ...byName, body: { optionIds: ["1"] } }));
  expect(theirs.userId, "u42");
}

void walk();
