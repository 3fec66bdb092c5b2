// Keeps the page up to date. The server renders every part of it; this puts the
// newer ones in place, touching only what differs, so that the focus, a selection
// and the reader's place stay.

const root = document.documentElement;
const self = document.body.dataset.self;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const silence = 40_000; // ms without a word after which the stream is taken for dead
const pollEvery = 5_000; // ms, where there is no stream
const retryEvery = 30_000; // ms until the stream is tried again, where it was refused

let asOf = Date.parse(document.body.dataset.at);
let ahead = asOf - Date.now(); // the server's clock, compared with this one

// —— times

function words(ms) {
  const s = Math.round(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

// A moment of today is told by the clock, an older one with its day, both of the
// reader's place; the title has it in UTC.
function moment(at) {
  const apart = Math.abs(at - (Date.now() + ahead));
  if (apart < 12 * 3_600_000) return at.toLocaleTimeString([], { hour12: false });
  return at.toLocaleString([], { hour12: false, year: apart > 300 * 86_400_000 ? "numeric" : undefined, month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
}

function tellTime(el) {
  if ("moment" in el.dataset) {
    el.textContent = moment(new Date(el.dateTime));
    return;
  }
  const apart = Date.parse(el.dateTime) - (Date.now() + ahead);
  const ago = "ago" in el.dataset;
  let text;
  if (ago) text = apart > -1500 ? "now" : `${words(-apart)} ago`;
  else text = apart > 0 ? `in ${words(apart)}` : "over";
  if (el.textContent !== text) el.textContent = text;
}

function tellTimes(within = document) {
  for (const el of within.querySelectorAll("time[data-ago], time[data-left], time[data-moment]")) tellTime(el);
}

// —— replacing parts

function sameKind(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
}

function keyOf(n) {
  return n.nodeType === Node.ELEMENT_NODE ? n.getAttribute("data-key") : null;
}

// update makes the children of `have` those of `want`. What has a data-key is
// found again wherever it has moved to.
function update(have, want) {
  const keyed = new Map();
  for (const c of have.children) {
    const k = keyOf(c);
    if (k !== null) keyed.set(k, c);
  }
  let at = have.firstChild;
  for (const next of [...want.childNodes]) {
    const k = keyOf(next);
    let node = k === null ? at : keyed.get(k);
    if (node && sameKind(node, next)) {
      if (node === at) at = at.nextSibling;
      else have.insertBefore(node, at);
      change(node, next);
    } else {
      have.insertBefore(next, at);
      if (k !== null && keyed.size > 0) next.classList.add("new");
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function change(have, want) {
  if (have.nodeType !== Node.ELEMENT_NODE) {
    if (have.nodeValue !== want.nodeValue) have.nodeValue = want.nodeValue;
    return;
  }
  if (have.nodeName === "TIME" && have.dateTime === want.dateTime) return;
  for (const { name } of [...have.attributes]) {
    if (!want.hasAttribute(name) && !(name === "open" && have.nodeName === "DETAILS")) have.removeAttribute(name);
  }
  for (const { name, value } of [...want.attributes]) {
    if (have.getAttribute(name) !== value) have.setAttribute(name, value);
  }
  update(have, want);
}

function show(frame) {
  asOf = Date.parse(frame.at);
  ahead = asOf - Date.now();
  if (document.title !== frame.title) document.title = frame.title;
  for (const [name, html] of Object.entries(frame.parts)) {
    const el = document.querySelector(`[data-part="${name}"]`);
    if (!el) continue;
    const t = document.createElement("template");
    t.innerHTML = html; // escaped by the server
    tellTimes(t.content);
    update(el, t.content);
  }
  if (frame.moved) {
    fly(frame.moves ?? []);
    announce(frame.moved, frame.moves ?? []);
  }
}

// —— bans on their way

const svg = "http://www.w3.org/2000/svg";
const mostFlights = 48;
const flights = document.getElementById("flights");

function fly(moves) {
  if (!flights || still.matches || document.hidden) return;
  const nodes = new Map();
  for (const n of document.querySelectorAll("circle[data-node]")) {
    if (!n.closest(".bad, .off")) nodes.set(n.dataset.node, [Number(n.getAttribute("cx")), Number(n.getAttribute("cy"))]);
  }
  moves.forEach((move, i) => {
    const from = nodes.get(move.origin);
    if (!from) return;
    let targets = [...nodes].filter(([name]) => name !== move.origin);
    if (targets.length > 12) targets = targets.filter(([name]) => name === self);
    for (const [, to] of targets) {
      if (flights.childElementCount >= mostFlights) return;
      send(from, to, Math.min(i, 8) * 60);
    }
  });
}

// send moves a dot along the ring's inside from one router to another.
function send(from, to, delay) {
  const dot = document.createElementNS(svg, "circle");
  dot.setAttribute("r", "5");
  dot.setAttribute("opacity", "0");
  flights.append(dot);
  const { width, height } = flights.viewBox.baseVal;
  const mid = [(from[0] + to[0] + width / 2) / 3, (from[1] + to[1] + height / 2) / 3];
  const begun = performance.now() + delay;
  const step = (now) => {
    const t = Math.min(1, (now - begun) / 700);
    if (t >= 1) return dot.remove();
    if (t >= 0) {
      const e = t < 0.5 ? 2 * t * t : 1 - 2 * (1 - t) * (1 - t);
      const at = (k) => (1 - e) * (1 - e) * from[k] + 2 * e * (1 - e) * mid[k] + e * e * to[k];
      dot.setAttribute("cx", at(0));
      dot.setAttribute("cy", at(1));
      dot.setAttribute("opacity", String(Math.min(1, 4 * t, 4 * (1 - t))));
    }
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

// —— for who listens: what came, every ten seconds at most

const say = document.getElementById("say");
let unsaid = 0;
let lastMove;
let sayTimer;

function announce(count, moves) {
  unsaid += count;
  lastMove = moves.at(-1) ?? lastMove;
  if (sayTimer) return;
  const tell = () => {
    sayTimer = undefined;
    if (unsaid === 0) return;
    const last = lastMove ? `${lastMove.prefix.replace(/\/(32|128)$/, "")} from ${lastMove.origin}` : "";
    say.textContent = unsaid === 1 ? `Ban of ${last}` : `${unsaid} new bans, among them ${last}`;
    unsaid = 0;
    sayTimer = setTimeout(tell, 10_000);
  };
  sayTimer = setTimeout(tell, 500);
}

// —— the link to the agent

const linkText = document.querySelector("#link .text");
let source;
let watch;
let poll;

function link(state) {
  if (root.dataset.link === state && state !== "lost") return;
  root.dataset.link = state;
  const clock = new Date(asOf).toLocaleTimeString([], { hour12: false });
  const text = {
    live: "Live",
    poll: `Every ${pollEvery / 1000} seconds: the agent has too many viewers for more`,
    lost: `Connection lost, trying again. The numbers are from ${clock}`,
  }[state];
  if (linkText.textContent !== text) linkText.textContent = text;
}

function heard() {
  asOf = Date.now() + ahead; // nothing has changed until now
  clearTimeout(watch);
  watch = setTimeout(() => {
    link("lost");
    connect();
  }, silence);
}

function connect() {
  source?.close();
  clearTimeout(poll);
  heard();
  source = new EventSource("/live");
  source.addEventListener("state", (e) => {
    heard();
    show(JSON.parse(e.data));
    link("live");
  });
  source.addEventListener("beat", heard);
  source.addEventListener("lost", heard); // the whole state follows
  source.addEventListener("end", () => link("lost"));
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CLOSED) return link("lost"); // it tries again by itself
    clearTimeout(watch);
    ask(Date.now() + retryEvery);
  });
}

// ask is what there is without a stream, until it is time to try that again.
async function ask(until) {
  let next = () => ask(until);
  try {
    const reply = await fetch("/state");
    if (!reply.ok) throw new Error(reply.statusText);
    show(await reply.json());
    link("poll");
    if (Date.now() > until) next = connect;
  } catch {
    link("lost");
    next = connect;
  }
  poll = setTimeout(next, pollEvery);
}

// —— search

const form = document.querySelector("form.search");
const answer = document.getElementById("answer");

async function search(ip) {
  let html = "";
  if (ip) {
    const reply = await fetch(`/why?ip=${encodeURIComponent(ip)}`);
    if (!reply.ok) return location.assign(`/?why=${encodeURIComponent(ip)}`);
    html = await reply.text();
  }
  answer.innerHTML = html; // escaped by the server
  tellTimes(answer);
  document.getElementById("h-answer")?.focus({ preventScroll: false });
}

// The other pages have no place for an answer: there the form leads to the overview.
if (answer) form.addEventListener("submit", (e) => {
  e.preventDefault();
  const ip = form.elements.why.value.trim();
  history.pushState(null, "", ip ? `/?why=${encodeURIComponent(ip)}` : "/");
  search(ip).catch(() => form.submit());
});
answer?.addEventListener("click", (e) => {
  if (!e.target.closest(".close")) return;
  e.preventDefault();
  history.pushState(null, "", "/");
  answer.replaceChildren();
  form.elements.why.value = "";
  form.elements.why.focus();
});
if (answer) addEventListener("popstate", () => {
  const ip = new URLSearchParams(location.search).get("why") ?? "";
  form.elements.why.value = ip;
  search(ip).catch(() => location.reload());
});

tellTimes();
setInterval(tellTimes, 1000);
connect();
root.dataset.ready = ""; // the page answers from here on
