// What happens, as it happens; the newest on top.

import { get, listen } from "../lib/api.js";
import { fill, h } from "../lib/dom.js";
import { clock, millis, short } from "../lib/format.js";
import { empty, field, head, select, toast } from "../lib/ui.js";

//: The most rows that stay on the page.
const MOST = 600;
const FIRST = 150;
const NAMES = ["kind", "function", "task", "state", "text", "id"];
const MARKS = { failed: "!", retried: "↻", running: "→", ok: "←" };
const DETAIL = new Set(["environment.frozen", "message.received", "message.deleted", "invocation.responded", "invocation.started", "batch.invoked", "message.sent"]);
const FAILED = new Set(["task.failed", "task.rejected", "inline.failed", "inline.lost", "message.dead_lettered", "invocation.throttled", "invocation.dropped", "message.expired"]);
const RETRIED = new Set(["task.retried", "task.returned", "task.deferred", "inline.deferred", "message.returned"]);

export function show(main, _, query) {
  const state = { all: query.get("all") === "1", paused: false, first: null, held: [] };
  const inputs = controls(query);
  const list = h("ol.stream", { "aria-label": "Events, newest first" });
  const more = h("button", { type: "button", onclick: () => older() }, "Older ones");
  const note = h("p.muted", { role: "status" });
  const all = h("input", { type: "checkbox", checked: state.all });
  const pause = h("button", { type: "button", "aria-pressed": "false" }, "Hold");
  main.append(head("Live", "Requests, invocations, messages and tasks as they come."),
    h("form.filters", { onsubmit: (event) => { event.preventDefault(); apply(); }, onchange: () => apply() },
      Object.entries(inputs).map(([name, input]) => h("div", { class: name === "text" ? "text" : "" }, field(name, input))),
      h("label.row", all, "each step"), pause),
    note, list, h("p.row", more));

  const wanted = () => Object.fromEntries(NAMES.map((name) => [name, inputs[name].value.trim()]).filter(([, value]) => value));
  const visible = (event) => state.all || Object.keys(wanted()).length > 0 || !DETAIL.has(event.kind);
  const apply = () => {
    state.all = all.checked;
    const query = new URLSearchParams({ ...wanted(), ...(state.all ? { all: "1" } : {}) });
    history.replaceState(null, "", `#/live${query.size ? `?${query}` : ""}`);
    load();
  };
  const load = async () => {
    const { events, more: further } = await get(["journal"], { ...wanted(), limit: FIRST });
    state.first = events[0]?.seq ?? null;
    more.hidden = !further;
    const rows = events.filter(visible).reverse().map(row);
    fill(list, rows);
    list.hidden = false;
    note.textContent = rows.length ? "" : "Nothing yet that matches.";
  };
  const older = async () => {
    const { events, more: further } = await get(["journal"], { ...wanted(), before: state.first, limit: 500 });
    state.first = events[0]?.seq ?? state.first;
    more.hidden = !further;
    list.append(...events.filter(visible).reverse().map(row));
  };
  const add = ({ events, skipped }) => {
    const matching = events.filter((event) => visible(event) && matches(event, wanted()));
    if (!matching.length) return;
    const began = list.childElementCount;
    list.prepend(...matching.reverse().map(row));
    while (list.childElementCount > MOST && list.childElementCount > began - matching.length) list.lastElementChild.remove();
    note.textContent = skipped ? `${skipped.toLocaleString("en")} more went by too fast to show; filter, or look further down.` : "";
  };
  pause.addEventListener("click", () => {
    state.paused = !state.paused;
    pause.setAttribute("aria-pressed", String(state.paused));
    pause.textContent = state.paused ? "Go on" : "Hold";
    if (!state.paused) load();
  });
  all.addEventListener("change", apply);
  load().catch((error) => toast(error.message, true));
  get(["functions"]).then(({ functions }) => inputs.function.append(...functions.map(({ name }) => h("option", { value: name, selected: name === query.get("function") }, name)))).catch(() => {});
  return listen((news) => { if (!state.paused) add(news); });
}

function controls(query) {
  const text = (name, hint) => h("input", { type: "search", value: query.get(name) ?? "", placeholder: hint, autocomplete: "off", spellcheck: false });
  return {
    text: text("text", "anywhere in the event"),
    id: text("id", "of anything"),
    function: select([["", "any"]], query.get("function") ?? ""),
    task: text("task", "app.tasks.…"),
    state: select([["", "any"], ["failed", "failed"], ["retried", "tried again"], ["running", "running"], ["ok", "ok"]], query.get("state") ?? ""),
    kind: select([["", "any"], ["request", "requests"], ["invocation", "invocations"], ["task", "tasks"], ["inline", "inline"], ["message", "messages"], ["environment", "environments"], ["schedule", "schedules"], ["fault", "faults"], ["log", "logs"]], query.get("kind") ?? ""),
  };
}

/** As `console/filters.py` decides it. */
export function stateOf({ kind, data }) {
  if (FAILED.has(kind) || data.error || data.level === "ERROR" || data.level === "CRITICAL") return "failed";
  if (kind === "request.answered") return data.status >= 500 ? "failed" : "ok";
  if (RETRIED.has(kind)) return "retried";
  if (/\.(started|received|published)$/.test(kind)) return "running";
  return /\.(succeeded|ended|deleted)$/.test(kind) ? "ok" : "";
}

function matches(event, wanted) {
  const ids = [event.requestId, event.taskId, event.messageId, event.data.originRequestId];
  return (!wanted.kind || event.kind.startsWith(wanted.kind)) && (!wanted.function || event.function === wanted.function) &&
    (!wanted.task || event.data.taskName === wanted.task) && (!wanted.state || stateOf(event) === wanted.state) &&
    (!wanted.id || ids.some((id) => id?.startsWith(wanted.id))) && (!wanted.text || JSON.stringify(event).toLowerCase().includes(wanted.text.toLowerCase()));
}

function row(event) {
  const state = stateOf(event);
  const id = event.taskId ?? event.requestId ?? event.messageId;
  const kind = event.kind === "fault.injected" || event.kind === "clock.moved" ? "fault" : state;
  return h("li", { class: kind, "data-seq": event.seq },
    h("time", clock(event.at)), h("span.mark", { title: state }, MARKS[state] ?? "·"),
    h("span.who.clip", event.function ?? event.queue ?? event.data.schedule ?? "gateway"),
    h("span.what.clip", { title: said(event) }, said(event)),
    id ? h("a.mono", { href: `#/trace/${id}` }, short(id)) : h("span"));
}

function said({ kind, data }) {
  if (kind === "request.received") return `${data.method} ${data.path}`;
  if (kind === "request.answered") return `${data.status} ${data.method} ${data.path} in ${millis(data.durationMs)}${data.error ? ` (${data.error})` : ""}`;
  if (kind === "invocation.started") return data.cold ? "invoked, cold start" : "invoked";
  if (kind === "invocation.ended") return `ended after ${millis(data.durationMs)}, billed ${data.billedMs} ms, ${data.maxMemoryMb} of ${data.memoryMb} MB`;
  if (kind === "environment.started") return `environment ready, ${data.restoreMs === undefined ? "init" : "restore"} ${millis(data.restoreMs ?? data.initMs)}`;
  if (kind === "fault.injected") return `fault: ${data.name}${data.target ? ` at ${data.target}` : ""}`;
  if (kind === "clock.moved") return data.text;
  if (kind === "log") return String(data.message ?? data.line ?? "");
  const what = kind.replace(/^(task|inline)\./, (lane) => (lane === "inline." ? "inline " : "")).replace("_", "-");
  const took = data.durationMs !== undefined ? ` in ${millis(data.durationMs)}` : "";
  const why = data.errorType ? ` (${data.errorType})` : "";
  const receive = data.receiveCount ? `, receive ${data.receiveCount}` : "";
  return `${what} ${data.taskName ?? data.schedule ?? ""}${took}${why}${receive}`.trim();
}

export { empty };
