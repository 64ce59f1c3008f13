// Follows the results of the page. Without this file the page works by form and reload.

const ANNOUNCED_EVERY = 10_000;
// The service sends something every 15 s.
const LONGEST_SILENCE = 45_000;
const MAX_LEADERS = 3;
const CONNECTION = { live: "Live", lost: "Reconnecting… Numbers may be out of date." };
const RELOADED_AFTER = 2_000;
const LONGEST_WAIT = 300_000;

const main = document.querySelector("main");
const find = (name) => main.querySelector(`[data-${name}]`);
const rows = new Map();
for (const row of main.querySelectorAll("[data-option]")) {
  const part = (name) => row.querySelector(`[data-${name}]`);
  rows.set(row.dataset.option, {
    row,
    fill: part("fill"),
    share: part("share"),
    votes: part("votes"),
  });
}
const wasClosed = find("state").classList.contains("is-closed");

let isClosed = wasClosed;
let isEntered = main.querySelector(".is-error") !== null;
let source;
let wait = 5_000;
let timer;
let silence;
const legend = find("legend")?.textContent;
let announced = { at: -ANNOUNCED_EVERY, timer: 0, text: "" };

function write(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

function times(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

// Numbers change too often to be read aloud each time.
function announce(text, isUrgent = false) {
  clearTimeout(announced.timer);
  announced.text = text;
  const due = isUrgent ? 0 : Math.max(0, announced.at + ANNOUNCED_EVERY - performance.now());
  announced.timer = setTimeout(() => {
    announced.at = performance.now();
    write(find("announcement"), announced.text);
  }, due);
}

// "live", "lost", or "" while the page does not follow. Said only where there are numbers.
function showConnection(state) {
  main.dataset.connection = state;
  if (!find("live")) return;
  find("live").hidden = !state;
  find("live").classList.toggle("is-lost", state === "lost");
  write(find("live"), CONNECTION[state] ?? "");
}

// As a GET: a reload of the answer to a form would send the form again. Not at once, since all who
// watch would come together, and never fast in a row.
function reload() {
  stop();
  const least = Math.max(0, RELOADED_AFTER - performance.now());
  timer = setTimeout(() => location.replace(location.pathname), least + Math.random() * 1_000);
}

// What has been entered is not thrown away; the numbers go on.
function offerReload() {
  if (!find("changed").hidden) return;
  find("changed").hidden = false;
  announce("This poll has changed.", true);
}

function show({ closed, layout, results }) {
  if (layout !== main.dataset.layout || (wasClosed && !closed)) {
    if (!isEntered) {
      reload();
      return;
    }
    offerReload();
  }
  if (closed !== isClosed) {
    isClosed = closed;
    showClosed();
  }
  if (results !== null) showResults(results);
}

function showClosed() {
  const state = find("state");
  write(state, isClosed ? "Closed" : "Open");
  state.classList.toggle("is-closed", isClosed);
  for (const name of ["until", "buttons", "comment", "yet"]) {
    if (find(name)) find(name).hidden = isClosed;
  }
  if (find("form")) {
    find("form").disabled = isClosed;
    write(find("legend"), isClosed ? (find("share") ? "Results" : "Options") : legend);
    find("ended").hidden = !isClosed;
    find("unsent").hidden = !isEntered;
  }
  const closed = `Voting has closed.${isEntered ? " Your choice was not sent." : ""}`;
  announce(isClosed ? closed : "Voting is open again.", true);
}

function showResults({ options, participants }) {
  const shares = Object.values(options).map((option) => option.percentage);
  const most = Math.max(...shares);
  const digits = shares.every(Number.isInteger) ? 0 : 1;
  let isOther = false;
  for (const [id, { votes, percentage }] of Object.entries(options)) {
    const shown = rows.get(id);
    if (!shown?.fill) continue;
    const share = `${percentage.toFixed(digits)}%`;
    isOther ||= shown.share.textContent !== share;
    shown.fill.setAttribute("width", `${percentage}%`);
    shown.row.classList.toggle("leads", most > 0 && percentage === most);
    write(shown.share, share);
    if (votes !== null) write(shown.votes, times(votes, "vote"));
  }
  if (find("leading")) showLeaders();
  if (participants !== null) {
    const voters = times(participants, "voter");
    isOther ||= find("participants")?.textContent !== voters;
    write(find("participants"), voters);
    if (isOther) announce(`${voters} so far.`);
  } else if (isOther) {
    announce("The results have changed.");
  }
}

// As `_leading` in page.py.
function showLeaders() {
  const titles = [...main.querySelectorAll(".leads .title")].map((one) => one.textContent);
  const named = titles.slice(0, MAX_LEADERS).map((title) => `\u2068${title}\u2069`);
  const more = titles.length - named.length;
  write(find("leaders"), named.join(", ") + (more ? ` and ${more} more` : ""));
  find("leading").hidden = !titles.length;
}

function stop() {
  clearTimeout(timer);
  clearTimeout(silence);
  source?.close();
  showConnection("");
}

// A connection may be dead without an error.
function expectMore() {
  clearTimeout(silence);
  silence = setTimeout(() => {
    showConnection("lost");
    follow();
  }, LONGEST_SILENCE);
}

function follow() {
  clearTimeout(timer);
  source?.close();
  expectMore();
  source = new EventSource(main.dataset.stream);
  source.addEventListener("open", () => {
    wait = 5_000;
    showConnection("live");
  });
  source.addEventListener("ping", expectMore);
  source.addEventListener("results", (event) => {
    expectMore();
    show(JSON.parse(event.data));
  });
  source.addEventListener("end", (event) => {
    // Otherwise the service starts again, and the browser connects again by itself.
    if (JSON.parse(event.data).reason !== "restart") {
      isEntered = false;
      reload();
    }
  });
  source.addEventListener("error", () => {
    showConnection("lost");
    if (source.readyState !== EventSource.CLOSED) return;
    clearTimeout(silence);
    timer = setTimeout(retry, wait * (0.5 + Math.random()));
    wait = Math.min(wait * 2, LONGEST_WAIT);
  });
}

// Of a stream that is refused nobody says why: the link may have ended while the computer slept.
async function retry() {
  if (document.hidden) return;
  const { status } = await fetch(main.dataset.stream, { method: "HEAD" }).catch(() => ({}));
  if (status === 403 || status === 404) {
    isEntered = false;
    reload();
  } else {
    follow();
  }
}

for (const time of main.querySelectorAll("time")) {
  const moment = new Date(time.dateTime);
  time.textContent = moment.toLocaleString("en-GB", {
    ...{ day: "numeric", month: "long", year: "numeric" },
    ...{ hour: "2-digit", minute: "2-digit", timeZoneName: "short" },
  });
}
main.querySelector("form")?.addEventListener("input", () => {
  isEntered = true;
});
// A page that nobody sees holds no connection: browsers have few of them for one host.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    stop();
  } else {
    follow();
  }
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.replace(location.pathname);
});
follow();
