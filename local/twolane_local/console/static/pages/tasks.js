// Tasks by name, and one of them: what it did, and running it.

import { get, listen, post } from "../lib/api.js";
import { fill, h } from "../lib/dom.js";
import { clock, leaf, millis, short } from "../lib/format.js";
import { form, read } from "../lib/taskform.js";
import { attempt, badge, count, empty, head, refreshing, table } from "../lib/ui.js";

export function show(main, [name], query) {
  const box = h("div.stacked");
  main.append(box);
  fill(box, head("Tasks"), empty("Asking the application …"));
  const load = name ? one(box, name, query) : () => all(box);
  const loads = refreshing(load, 1500);
  loads.now();
  const deaf = listen((news) => news.events.some((event) => event.kind.startsWith("task.") || event.kind.startsWith("inline.")) && loads.soon());
  return () => { deaf(); loads.stop(); };
}

async function all(box) {
  const { tasks, problem } = await get(["tasks"]);
  fill(box, head("Tasks", "By name: how often, how long, how well. Open one to run it."),
    problem && h("p.card.alert", problem),
    tasks.length ? table("Tasks", [
      ["task", (each) => h("a", { href: `#/tasks/${encodeURIComponent(each.name)}`, "data-key": each.name }, each.name)],
      ["published", (each) => each.counts.published, "num"],
      ["running", (each) => each.counts.running, "num"],
      ["succeeded", (each) => each.counts.succeeded, "num"],
      ["failed", (each) => (each.counts.failed ? badge("failed", each.counts.failed) : 0), "num"],
      ["tried again", (each) => (each.counts.retried ? badge("retried", each.counts.retried) : 0), "num"],
      ["p50", (each) => millis(each.p50Ms), "num"],
      ["p95", (each) => millis(each.p95Ms), "num"],
      ["lane advice", (each) => h("span.muted", each.advice[0] ?? "–")],
    ], tasks) : empty("No task is registered."));
}

/** The form is made once: what is typed must outlast every refresh. */
function one(box, name, query) {
  const figures = h("div.counts");
  const advice = h("div.stacked");
  const history = h("div");
  const title = h("div");
  const run = h("section.card.stacked");
  fill(box, h("p", h("a", { href: "#/tasks" }, "← All tasks")), title, figures, advice, run, history);
  let made = null;
  return async () => {
    const task = await get(["tasks", name]);
    fill(title, head(leaf(name), name), task.problem && h("p.card.alert", task.problem), task.doc && h("p.muted", task.doc));
    fill(figures, count(task.counts.published, "published"), count(task.counts.succeeded, "succeeded"), count(task.counts.failed, "failed", task.counts.failed > 0), count(task.counts.retried, "tried again"), count(millis(task.p50Ms), "p50"), count(millis(task.p95Ms), "p95"));
    fill(advice, task.advice.map((text) => h("p.muted", `Lane advice: ${text}`)));
    if (!made) {
      made = runner(run, task);
      const again = task.history.find((each) => each.taskId === query.get("again"));
      if (again) made(again);
    }
    fill(history, h("h2", "History"), task.history.length ? runs(task, (each) => { made(each); run.scrollIntoView({ block: "center" }); }) : empty("It has not run since the emulator started."));
  };
}

function runner(box, task) {
  let fields = null;
  const body = h("div.stacked");
  const countdown = h("input", { type: "number", min: 0, step: "any", value: 0 });
  const note = h("p.muted");
  const start = (values) => {
    fields = form(task.parameters, values, countdown);
    fill(body, fields.node);
    note.textContent = values?.argsHidden ? "Its arguments are hidden; give new ones." : "";
  };
  start(null);
  fill(box, h("h2", "Run it"), note, h("form.stacked", { "data-form": "run", onsubmit: (event) => {
    event.preventDefault();
    attempt(async () => {
      const { args, kwargs } = read(fields);
      const delay = Number(countdown.value);
      return post(["tasks", task.name, "run"], { args, kwargs, ...(delay > 0 ? { countdown: delay } : {}) });
    }, (answer) => h("span", "Published as ", h("a", { href: `#/trace/${answer.taskId}`, class: "mono" }, short(answer.taskId))));
  } }, body, h("div.row", h("button.primary", { type: "submit", disabled: !task.registered && !task.counts.published }, "Run"))));
  return start;
}

const runs = (task, again) => table(`History of ${task.name}`, [
  ["when", (each) => h("span.num.nowrap", clock(each.at, false))],
  ["task", (each) => h("a.mono", { href: `#/trace/${each.taskId}`, "data-key": each.taskId }, short(each.taskId))],
  ["state", (each) => badge(each.state)],
  ["attempts", (each) => each.attempts, "num"],
  ["took", (each) => millis(each.durationMs), "num"],
  ["arguments", (each) => h("span.mono", each.args ? [...each.args.map((value) => JSON.stringify(value)), ...Object.entries(each.kwargs).map(([key, value]) => `${key}=${JSON.stringify(value)}`)].join(", ") : each.argsRepr ?? "–")],
  ["error", (each) => each.error ?? ""],
  ["", (each) => h("button", { type: "button", "data-key": `again-${each.taskId}`, onclick: () => again(each) }, "Rerun …")],
], task.history);
