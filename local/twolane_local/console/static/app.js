// The frame around the pages: navigation, search, the clock, keys.

import { get, listen } from "./lib/api.js";
import { fill, h } from "./lib/dom.js";
import { clock } from "./lib/format.js";
import { toast } from "./lib/ui.js";

const PAGES = [
  ["trace", "Trace", "t"],
  ["live", "Live", "l"],
  ["queues", "Queues", "q"],
  ["tasks", "Tasks", "k"],
  ["schedules", "Schedules", "s"],
  ["functions", "Functions", "f"],
  ["why", "Why?", "w"],
  ["time", "Time and faults", "c"],
];
const main = document.getElementById("main");
let leave = () => {};
let turn = 0;

/** `#/queues/NAME?x=1` as `["queues", "NAME"]` and its parameters. */
function place() {
  const [route, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return [route.split("/").map(decodeURIComponent).filter(Boolean), new URLSearchParams(query)];
}

async function show() {
  const [[name = "trace", ...rest], query] = place();
  const known = PAGES.find(([id]) => id === name) ?? PAGES[0];
  const mine = ++turn;
  const page = await import(`./pages/${known[0]}.js`);
  if (mine !== turn) return;
  leave();
  main.replaceChildren();
  main.dataset.page = known[0];
  document.title = `${known[1]} · twolane`;
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.page === known[0]) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "center" });
    } else link.removeAttribute("aria-current");
  }
  leave = page.show(main, rest, query) ?? (() => {});
  performance.mark("twolane:page");
}

function frame() {
  const search = h("input", { type: "search", placeholder: "Find a request, task or message by its id  ( / )", "aria-label": "Find by id", autocomplete: "off", spellcheck: false });
  const find = h("form", { id: "find", role: "search", onsubmit: (event) => {
    event.preventDefault();
    if (search.value.trim()) location.hash = `#/trace/${encodeURIComponent(search.value.trim())}`;
    search.blur();
  } }, search);
  const dot = h("span.dot");
  const link = h("span", "connecting");
  const time = h("span.clock", { title: "The emulator's clock" });
  const stack = h("span.stack");
  fill(document.getElementById("top"),
    h("a.brand", { href: "#/trace" }, h("img", { src: "/static/icon.svg", alt: "" }), "twolane", stack),
    find, time, h("span.link-state", { role: "status" }, dot, link));
  const foot = h("p.foot");
  fill(document.getElementById("nav"),
    h("ul", PAGES.map(([id, text, key]) => h("li", h("a", { href: `#/${id}`, "data-page": id }, text, h("kbd", { "aria-hidden": "true" }, `g ${key}`))))), foot);
  document.addEventListener("twolane:link", (event) => {
    dot.className = `dot ${event.detail ? "ok" : "failed"}`;
    link.textContent = event.detail ? "live" : "the emulator does not answer";
  });
  keys(search);
  status(stack, foot, time);
}

async function status(stack, foot, time) {
  const current = await get(["status"]).catch((error) => toast(error.message, true));
  if (!current) return;
  stack.textContent = `${current.stack} · ${current.mode}`;
  fill(foot, `The journal keeps ${current.journal.limit.toLocaleString("en")} events and ${current.journal.bytesLimit / 1048576} MB of contents.`);
  let { clock: known } = current;
  let read = performance.now();
  const look = async () => {
    known = await get(["clock"]).catch(() => known);
    read = performance.now();
  };
  listen((news) => news.events.some((event) => event.kind === "clock.moved") && look());
  setInterval(() => {
    const now = known.now + (known.paused ? 0 : (performance.now() - read) / 1000);
    const ahead = Math.abs(known.offset) > 0.5 ? ` (${known.offset > 0 ? "+" : ""}${Math.round(known.offset)} s)` : "";
    time.textContent = `${clock(now, false)}${ahead}${known.paused ? " paused" : ""}`;
  }, 500);
}

function keys(search) {
  let waiting = 0;
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select, dialog");
    if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    if (event.key === "/") {
      event.preventDefault();
      search.focus();
    } else if (event.key === "g") {
      waiting = performance.now();
    } else if (performance.now() - waiting < 1500) {
      const page = PAGES.find(([, , key]) => key === event.key);
      waiting = 0;
      if (page) location.hash = `#/${page[0]}`;
    }
  });
}

addEventListener("hashchange", show);
addEventListener("error", (event) => toast(event.message, true));
addEventListener("unhandledrejection", (event) => toast(event.reason?.message ?? String(event.reason), true));
frame();
show();
