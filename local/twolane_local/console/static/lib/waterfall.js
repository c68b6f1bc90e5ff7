// A trace as rows: each span on one time line, which may leave out long waits.

import { block, badge, facts } from "./ui.js";
import { h } from "./dom.js";
import { bytes, clock, moment, short, span as length } from "./format.js";

const IDLE = new Set(["wait", "message", "dead-letter", "chord", "task", "request", "result", "response"]);
//: Of the width, for a gap in which nothing runs.
const GAP = 0.05;

/** From a time to its place, 0 to 1; with `fold`, gaps in which nothing runs are short. */
export function scale(trace, fold) {
  const from = trace.from;
  const to = Math.max(trace.to, from + 0.001);
  const straight = { at: (time) => (time - from) / (to - from), gaps: [] };
  if (!fold) return straight;
  const gaps = idle(trace, from, to).filter(([begin, end]) => end - begin > (to - from) * 0.12);
  if (!gaps.length || gaps.length * GAP > 0.5) return straight;
  const folded = gaps.reduce((sum, [begin, end]) => sum + end - begin, 0);
  const rate = (1 - gaps.length * GAP) / Math.max(to - from - folded, 1e-9);
  const at = (time) => {
    let place = 0;
    let last = from;
    for (const [begin, end] of gaps) {
      if (time <= begin) break;
      place += (begin - last) * rate;
      if (time < end) return place + ((time - begin) / (end - begin)) * GAP;
      place += GAP;
      last = end;
    }
    return place + Math.max(0, time - last) * rate;
  };
  return { at, gaps };
}

function idle(trace, from, to) {
  const busy = trace.spans.filter((each) => !IDLE.has(each.kind)).map((each) => [each.start, each.end ?? to]);
  for (const each of trace.spans) if (each.kind === "result" || each.kind === "response") busy.push([each.start, each.start]);
  const gaps = [];
  let last = from;
  for (const [begin, end] of busy.sort((one, other) => one[0] - other[0])) {
    if (begin > last) gaps.push([last, begin]);
    last = Math.max(last, end);
  }
  if (to > last) gaps.push([last, to]);
  return gaps;
}

function axis(trace, { at, gaps }) {
  const ticks = h("div.ticks");
  const places = gaps.length
    ? [trace.from, ...gaps.flat(), trace.to].map((time) => [time, at(time)])
    : [0, 0.25, 0.5, 0.75, 1].map((part) => [trace.from + part * (trace.to - trace.from), part]);
  const wide = matchMedia("(min-width: 761px)").matches ? 0.13 : 0.2;
  const end = places.pop();
  const apart = [];
  for (const each of places) if ((!apart.length || each[1] - apart.at(-1)[1] >= wide) && end[1] - each[1] >= wide) apart.push(each);
  for (const [time, place] of [...apart, end]) {
    ticks.append(h("span", { class: place <= 0 ? "first" : place > 0.97 ? "last" : "", style: { left: `${place * 100}%` } }, length(time - trace.from)));
  }
  for (const [begin, end] of gaps) ticks.append(h("i", { style: { left: `${((at(begin) + at(end)) / 2) * 100}%` }, title: `${length(end - begin)} in which nothing ran` }));
  return h("div.axis", h("span", "step"), ticks);
}

/** The whole waterfall; `open` holds the ids of spans that are opened, `closed` of tasks that are folded up. */
export function waterfall(trace, { fold, open, closed, changed }) {
  const placed = scale(trace, fold);
  const depths = new Map();
  const parents = new Map(trace.spans.map((each) => [each.id, each.parent]));
  const hidden = (each) => {
    for (let up = each.parent; up; up = parents.get(up)) if (closed.has(up)) return true;
    return false;
  };
  const rows = [];
  for (const each of trace.spans) {
    depths.set(each.id, each.parent === null ? 0 : (depths.get(each.parent) ?? -1) + 1);
    if (!hidden(each)) rows.push(row(trace, each, depths.get(each.id), placed, open, closed, changed));
  }
  return h("div.waterfall", axis(trace, placed), h("ol", { onkeydown: arrows }, rows));
}

function arrows(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || !event.target.classList.contains("span-row")) return;
  event.preventDefault();
  const buttons = [...event.currentTarget.querySelectorAll(".span-row")];
  buttons[buttons.indexOf(event.target) + step]?.focus();
}

function row(trace, each, depth, placed, open, closed, changed) {
  const end = each.end ?? trace.to;
  const left = placed.at(each.start);
  const width = Math.max(0, placed.at(end) - left);
  const right = left + width > 0.82;
  const bar = h("span.bar", { style: { left: `${left * 100}%`, width: `${width * 100}%` } });
  const took = each.kind === "response" || each.kind === "result" ? "" : length(end - each.start);
  const time = h("span.bar-time", { class: right ? "left" : "", style: { left: `${(right ? left : left + width) * 100}%` } }, took);
  const marks = each.parent === null ? each.marks.filter((mark) => mark.text.startsWith("fault") || mark.text.startsWith("the clock")) : [];
  const lines = marks.map((mark) => h("span.mark-line", { style: { left: `${placed.at(mark.at) * 100}%` }, title: mark.text }));
  const said = each.kind === "attempt" || each.kind === "result" || each.kind === "dead-letter";
  const shown = each.state === "ok" || said ? null : badge(each.state);
  const button = h("button.span-row", {
    type: "button", "data-key": each.id, "aria-expanded": String(open.has(each.id)),
    onclick: () => toggle(open, each.id, changed),
  }, h("span.span-title", h("i.kind"), h("span.clip", { title: each.title }, each.title), shown), h("span.track", bar, took && time, lines));
  const item = h("li", { class: `depth-${Math.min(depth, 5)} lane-${each.lane} kind-${each.kind} state-${each.state}` }, button);
  if (open.has(each.id)) item.append(detail(trace, each, closed, changed));
  return item;
}

function toggle(set, id, changed) {
  if (!set.delete(id)) set.add(id);
  changed();
}

const CONTENTS = [["body", "Body"], ["payload", "Event"], ["response", "Response"]];
const APART = new Set(["body", "payload", "response", "headers", "logs", "error", "lines", "header", "requestId", "messageId", "taskId", "function"]);

function detail(trace, each, closed, changed) {
  const { detail: found } = each;
  const below = trace.spans.some((other) => other.parent === each.id);
  const plain = Object.entries(found).filter(([name]) => !APART.has(name)).map(([name, value]) => [words(name), typeof value === "object" ? JSON.stringify(value) : String(value)]);
  const ids = [["request", each.requestId], ["task", each.taskId], ["message", each.messageId]].filter(([, id]) => id);
  return h("div.span-detail",
    facts([
      ["started", `${moment(each.start)} (+${length(each.start - trace.from)})`],
      ["took", each.end === null ? `${length(trace.to - each.start)}, not over` : length(each.end - each.start)],
      ["function", each.function], ["queue", each.queue],
      ...ids.map(([name, id]) => [name, h("code", id)]),
      ...plain.map(([name, value]) => [name, name === "bytes" ? bytes(Number(value)) : value]),
    ]),
    each.marks.length > 0 && each.parent === null && h("ul", each.marks.map((mark) => h("li", `+${length(mark.at - trace.from)} ${mark.text}`))),
    found.error && failure(found.error),
    found.lines?.length && block("Celery's words", found.lines.join("\n")),
    CONTENTS.filter(([name]) => found[name]).map(([name, title]) => block(title, found[name])),
    found.headers?.length && block("Headers", found.headers.map(([name, value]) => `${name}: ${value}`).join("\n")),
    found.logs?.length && h("section", h("h3", "Log"), logs(found.logs)),
    h("div.row",
      each.state !== "ok" && ids.length > 0 && h("a.button", { href: `#/why/${ids.at(-1)[1]}` }, "Why?"),
      ids.length > 0 && h("a.button", { href: `#/live?id=${short(ids.at(-1)[1])}` }, "Its events"),
      below && h("button", { type: "button", onclick: () => toggle(closed, each.id, changed) }, closed.has(each.id) ? "Show what is below" : "Fold what is below")),
  );
}

export function failure(error) {
  if (typeof error === "string") return h("section", h("h3", "Error"), h("p", error));
  return h("section", h("h3", `Error${error.type ? `: ${error.type}` : ""}`), error.message && h("p.mono", error.message),
    traceback(error.folded, error.traceback));
}

/** A traceback with the frames of frameworks folded, and the whole of it below where that is more. */
const traceback = (folded, whole) => whole && [
  h("pre.traceback", { tabIndex: 0, role: "region", "aria-label": "Traceback" }, folded || whole),
  folded && folded !== whole && h("details", h("summary", "All frames"),
    h("pre.traceback", { tabIndex: 0, role: "region", "aria-label": "Whole traceback" }, whole)),
];

export const logs = (lines) =>
  h("ol.log-lines", lines.map((line) => h("li", h("span.muted", clock(line.at)), h("span", { class: line.level }, line.level), h("span.text", line.text, traceback(line.folded, line.stackTrace)))));

/** `maxMemoryMb` as `max memory mb`. */
const words = (name) => name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

export const legend = () =>
  h("p.key", h("span", h("i"), "request"), h("span", h("i.inline"), "inline lane"), h("span", h("i.deferred"), "deferred lane"), h("span", h("i.wait"), "waiting"), h("span", h("i.retried"), "tried again"), h("span", h("i.failed"), "failed"));
