// What fires when, on a time line.

import { get, listen, post } from "../lib/api.js";
import { fill, h } from "../lib/dom.js";
import { clock, moment, until } from "../lib/format.js";
import { attempt, badge, empty, facts, head, refreshing } from "../lib/ui.js";

export function show(main) {
  const box = h("div.stacked");
  main.append(head("Schedules", "Rules and schedules of the stack; the tick's own entries below it."), box);
  const load = async () => {
    const { schedules, now } = await get(["schedules"]);
    fill(box, schedules.length ? schedules.map((each) => card(each, now)) : empty("The stack has no schedule."));
  };
  const loads = refreshing(load, 1500);
  loads.now();
  const timer = setInterval(loads.soon, 10000);
  const deaf = listen((news) => news.events.some((event) => event.kind === "schedule.fired" || event.kind === "tick" || event.kind === "clock.moved") && loads.soon());
  return () => { deaf(); loads.stop(); clearInterval(timer); };
}

function card(each, now) {
  return h("section.card.stacked", { "aria-label": each.name },
    h("div.row", h("h2.grow", each.name), badge(each.enabled ? "ok" : "waiting", each.enabled ? "enabled" : "disabled"), h("button", { type: "button", "data-key": `run-${each.name}`, onclick: () => run(each) }, "Run now")),
    h("p.muted", h("code", each.expression), ` ${each.timezone} → ${each.target}`),
    line(each.next, each.last, now),
    each.problem && h("p.card.alert", each.problem),
    each.entries.length > 0 && h("div.stacked", h("h3", "Entries of beat_schedule"), each.entries.map((entry) => below(each, entry, now))));
}

function below(schedule, entry, now) {
  const next = entry.next.map((text) => Date.parse(text) / 1000);
  const last = entry.last ? Date.parse(entry.last) / 1000 : null;
  return h("div", h("div.row", h("b.grow", entry.name), h("button", { type: "button", "data-key": `run-${schedule.name}-${entry.name}`, onclick: () => run(schedule, entry.name) }, "Send now")),
    facts([["task", h("a", { href: `#/tasks/${encodeURIComponent(entry.task)}` }, entry.task)], ["when", `${entry.schedule} (${entry.timezone})`], ["last", last ? moment(last) : "not yet"]]), line(next, last, now));
}

/** The last time, now, and those to come, evenly scaled. */
function line(next, last, now) {
  if (!next.length) return h("p.muted", "Nothing to come.");
  const from = last ?? now;
  const to = next.at(-1);
  const place = (at) => `${Math.min(100, Math.max(0, ((at - from) / Math.max(to - from, 1)) * 100))}%`;
  const text = (at, kind, said) => h("em", { class: kind, style: { left: place(at) } }, said);
  const words = `Next ${next.slice(0, 3).map((at) => moment(at)).join(", ")}`;
  return h("div.timeline", { role: "img", "aria-label": words, title: words },
    last && h("span.last", { style: { left: place(last) } }), h("span.now", { style: { left: place(now) } }), next.map((at) => h("span", { style: { left: place(at) }, title: moment(at) })),
    last && last < now && text(from, "first", `last ${clock(last, false)}`), text(next[0], near(next[0], from, to), `next ${until(next[0], now)}`), next.length > 1 && text(to, "end", clock(to, false)));
}

/** A label at the left edge begins there. */
const near = (at, from, to) => ((at - from) / Math.max(to - from, 1) < 0.2 ? "first" : "");

const run = (schedule, entry) => attempt(() => post(["schedules", `${schedule.group}/${schedule.name}`, "run"], entry ? { entry } : {}), entry ? `${entry} is sent` : `${schedule.name} fired`);
