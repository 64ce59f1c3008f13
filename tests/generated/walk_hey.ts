// Poll, vote, results, session: through the client that @hey-api/openapi-ts generates.
import { client } from "./hey/client.gen";
import * as api from "./hey/sdk.gen";

declare const process: { argv: string[] };
const [, , url, token] = process.argv;

client.setConfig({ baseUrl: url, auth: token, throwOnError: true });

function expect(found: unknown, expected: unknown): void {
  if (found !== expected) throw new Error(`${found} is not ${expected}`);
}

async function walk(): Promise<void> {
  const place = { workspace: "PLAT", content: "PLAT-2" };
  const throwOnError = true;
  const options = ["Tea", "Coffee", "Water"].map((title) => ({ title }));
  const { data: poll } = await api.createContentPoll({
    query: place,
    body: { title: "What else?", options },
    throwOnError,
  });
  const one = { ...place, pollId: poll.id };
  await api.castVote({ query: one, body: { optionIds: ["3"] }, throwOnError });
  const { data: results } = await api.getResults({ query: one, throwOnError });
  expect(results.results.options["3"]?.votes, 1);

  const path = { poll_id: poll.id };
  const { data: made } = await api.createPollSession({
    path,
    body: { poll_sessions: [{ course_id: 1, has_public_results: true }] },
    throwOnError,
  });
  expect(made.poll_sessions.map((session) => session.is_published)[0], false);
  const { data: listed } = await api.listPollSessions({ path, throwOnError });
  expect(listed.poll_sessions.length, 2);
}

void walk();
