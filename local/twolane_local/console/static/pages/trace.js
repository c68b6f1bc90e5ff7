// One request as a waterfall over both lanes, beside the latest ones.

import { get, listen, post } from "../lib/api.js";
import { fill, h } from "../lib/dom.js";
import { clock, millis, plural, span } from "../lib/format.js";
import { attempt, badge, dialog, empty, field, head, refreshing } from "../lib/ui.js";
import { legend, waterfall } from "../lib/waterfall.js";

//: Above so many tasks, each shows one row until it is opened.
const MANY = 12;

export function show(main, [id]) {
  const list = h("div.master");
  const detail = h("div.detail.stacked");
  const split = h("div.split", { class: id ? "chosen" : "" }, list, detail);
  main.append(head("Trace", "A request over both lanes: what ran before the response, after it, and on the queue."), split);
  const state = { fold: true, open: new Set(), closed: null, trace: null };
  let chosen = id;
  const draw = () => state.trace && fill(detail, story(state, draw));
  const loadList = async () => {
    const { requests } = await get(["requests"], { limit: 60 });
    const first = !chosen && requests.length > 0 && matchMedia("(min-width: 761px)").matches;
    if (first) chosen = requests[0].id;
    fill(list, requests.length ? h("ul.list", { "aria-label": "Latest requests" }, requests.map((each) => item(each, state.trace?.root ?? `request:${chosen}`))) : empty("No request yet. Send one to the API, and it shows up here."));
    if (first) await loadTrace();
  };
  const loadTrace = async () => {
    if (!chosen) return;
    try {
      state.trace = await get(["trace", chosen]);
    } catch (error) {
      fill(detail, back(), empty(error.message));
      return;
    }
    state.closed ??= new Set(many(state.trace));
    draw();
  };
  const lists = refreshing(loadList, 800);
  const traces = refreshing(loadTrace, 800);
  traces.now().then(lists.now);
  if (!id) fill(detail, empty("Choose a request."));
  const deaf = listen((news) => {
    if (news.events.some((event) => event.kind.startsWith("request.") || event.kind.startsWith("task.") || event.kind === "tick")) lists.soon();
    if (state.trace?.running || news.events.some((event) => concerns(event, state.trace, chosen))) traces.soon();
  });
  return () => { deaf(); lists.stop(); traces.stop(); };
}

const many = (trace) => {
  const tasks = trace.spans.filter((each) => each.kind === "task");
  return tasks.length > MANY ? tasks.map((each) => each.id) : [];
};

function concerns(event, trace, chosen) {
  // Of what was only just sent, the journal may not have heard yet.
  if (!trace) return chosen !== undefined && [event.requestId, event.taskId, event.messageId].some((id) => id?.startsWith(chosen));
  return trace.spans.some((each) => (each.requestId && each.requestId === event.requestId) || (each.taskId && each.taskId === event.taskId) || (each.messageId && each.messageId === event.messageId));
}

function item(each, root) {
  const { published, failed, retried, inline } = each.tasks;
  const parts = [clock(each.at, false), millis(each.durationMs)];
  if (inline) parts.push(`${inline} inline`);
  if (published) parts.push(plural(published - retried, "task"));
  if (retried) parts.push(`${retried} tried again`);
  if (failed) parts.push(`${failed} failed`);
  return h("li", h("a", { href: `#/trace/${each.id}`, "data-key": each.id, "aria-current": String(root === `request:${each.id}` || root === `invocation:${each.id}`) },
    h("span.clip", { title: each.title }, each.title), badge(each.state, each.status ?? each.state), h("span.sub", parts.join(" · "))));
}

const back = () => h("a.button.back", { href: "#/trace" }, "← All requests");

function story(state, draw) {
  const { trace } = state;
  const root = trace.spans[0];
  const failed = trace.spans.filter((each) => each.kind === "task" && each.state === "failed").length;
  return [
    back(),
    h("div.row", h("h2.grow", root?.title ?? trace.id), trace.running ? badge("running", "under way") : badge(failed ? "failed" : root?.state ?? "ok", failed ? `${plural(failed, "task")} failed` : "over"), h("span.muted.num", span(trace.to - trace.from)),
      h("button", { type: "button", "aria-pressed": String(state.fold), "data-key": "fold", onclick: () => { state.fold = !state.fold; draw(); } }, state.fold ? "Show waits in full" : "Shorten waits"),
      trace.running && h("a.button", { href: `#/why/${trace.id}` }, "Why?"),
      h("button", { type: "button", "data-key": "again", onclick: () => again(trace) }, "Run again …")),
    h("p.muted", h("code", trace.id)),
    waterfall(trace, { fold: state.fold, open: state.open, closed: state.closed, changed: draw }),
    legend(),
    trace.leftOut > 0 && h("p.muted", `${plural(trace.leftOut, "further span")} not shown.`),
  ];
}

function again(trace) {
  const invocation = trace.spans.find((each) => each.kind === "invocation");
  const task = trace.spans.find((each) => each.kind === "task");
  if (!invocation && task) {
    location.hash = `#/tasks/${encodeURIComponent(task.title)}?again=${task.taskId}`;
    return;
  }
  if (!invocation) return;
  let before = {};
  try {
    before = JSON.parse(invocation.detail.payload ?? "{}");
  } catch {
    before = {};
  }
  const text = h("textarea", { rows: 14, value: JSON.stringify(before, null, 2), spellcheck: false });
  const original = text.value;
  dialog("Run it again", [h("p.muted", `${invocation.function} gets this event, under a new request id. Unchanged, the event is sent as it was, secrets included; one of an earlier run as it was kept, without them.`), field("Event", text)], {
    action: "Run",
    act: () => attempt(async () => {
      const changed = text.value !== original ? { event: JSON.parse(text.value) } : {};
      const answer = await post(["replay"], { id: invocation.requestId, ...changed });
      location.hash = `#/trace/${answer.id}`;
      return answer;
    }, "It ran again"),
  });
}
