// Follows the results of the page. Without this file the page works by form and reload.

const ANNOUNCED_EVERY = 10_000;
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

// As a GET: a reload of the answer to a form would send the form again. Not at once, since all who
// watch would come together, and never fast in a row.
function reload() {
  source.close();
  clearTimeout(timer);
  if (isEntered) {
    find("changed").hidden = false;
    return;
  }
  const least = Math.max(0, RELOADED_AFTER - performance.now());
  timer = setTimeout(() => location.replace(location.pathname), least + Math.random() * 1_000);
}

function show({ closed, layout, results }) {
  if (layout !== main.dataset.layout || (wasClosed && !closed)) {
    reload();
    return;
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
  for (const name of ["until", "buttons"]) {
    if (find(name)) find(name).hidden = isClosed;
  }
  if (find("form")) find("form").disabled = isClosed;
  announce(isClosed ? "Voting has closed." : "Voting is open again.", true);
}

function showResults({ options, participants }) {
  const most = Math.max(...Object.values(options).map((option) => option.percentage));
  let isOther = false;
  for (const [id, { votes, percentage }] of Object.entries(options)) {
    const shown = rows.get(id);
    if (!shown?.fill) continue;
    const width = `${percentage}%`;
    isOther ||= shown.share.textContent !== width;
    shown.fill.setAttribute("width", width);
    shown.row.classList.toggle("leads", most > 0 && percentage === most);
    write(shown.share, width);
    if (votes !== null) write(shown.votes, times(votes, "vote"));
  }
  if (participants !== null) {
    const voters = times(participants, "voter");
    isOther ||= find("participants")?.textContent !== voters;
    write(find("participants"), voters);
    if (isOther) announce(`${voters} so far.`);
  } else if (isOther) {
    announce("The results have changed.");
  }
}

function follow() {
  clearTimeout(timer);
  source?.close();
  source = new EventSource(main.dataset.stream);
  source.addEventListener("open", () => {
    wait = 5_000;
    find("live").hidden = false;
  });
  source.addEventListener("results", (event) => show(JSON.parse(event.data)));
  source.addEventListener("end", (event) => {
    // Otherwise the service starts again, and the browser connects again by itself.
    if (JSON.parse(event.data).reason !== "restart") {
      isEntered = false;
      reload();
    }
  });
  source.addEventListener("error", () => {
    find("live").hidden = true;
    if (source.readyState !== EventSource.CLOSED) return;
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
  time.textContent = moment.toLocaleString([], { dateStyle: "long", timeStyle: "short" });
}
main.querySelector("form")?.addEventListener("input", () => {
  isEntered = true;
});
// A page that nobody sees holds no connection: browsers have few of them for one host.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    source.close();
    find("live").hidden = true;
  } else {
    follow();
  }
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.replace(location.pathname);
});
follow();
