// Moving time, and making things go wrong.

import { get, listen, post } from "../lib/api.js";
import { fill, h } from "../lib/dom.js";
import { clock, moment, plural, span } from "../lib/format.js";
import { attempt, badge, empty, field, head, refreshing, select, table } from "../lib/ui.js";

const LEAPS = [[1, "1 s"], [10, "10 s"], [60, "1 min"], [900, "15 min"], [3600, "1 h"], [86400, "1 day"]];

export function show(main) {
  const time = h("section.card.stacked", { "aria-label": "Time" });
  const armed = h("section.card.stacked", { "aria-label": "Armed faults" });
  const inject = h("section.card.stacked", { "aria-label": "Inject a fault" });
  const marks = h("section.card.stacked", { "aria-label": "What was moved and broken" });
  main.append(head("Time and faults", "Pause, step or advance the emulator's clock; make AWS go wrong and see what your code does."), h("div.stacked", time, inject, armed, marks));
  let formed = false;
  const load = async () => {
    const [now, faults, moved, injected] = await Promise.all([get(["clock"]), get(["faults"]), get(["journal"], { kind: "clock", limit: 50 }), get(["journal"], { kind: "fault", limit: 50 })]);
    fill(time, clockPanel(now, loads));
    if (!formed && faults.catalogue.length) {
      formed = true;
      fill(inject, faultForm(faults.catalogue, loads));
    }
    fill(armed, h("div.row", h("h2.grow", "Armed"), faults.active.length > 0 && h("button", { type: "button", "data-key": "clear-all", onclick: () => clear({}, loads) }, "Clear all")), active(faults.active, loads));
    fill(marks, h("h2", "On the time line"), timeline([...moved.events, ...injected.events]));
  };
  const loads = refreshing(load, 500);
  loads.now();
  const timer = setInterval(loads.soon, 1000);
  const deaf = listen(() => loads.soon());
  return () => { deaf(); loads.stop(); clearInterval(timer); };
}

function clockPanel(now, loads) {
  const move = (body, done) => attempt(async () => { const answer = await post(["clock"], body); loads.now(); return answer; }, done);
  const off = !now.canMove;
  const own = h("input", { type: "number", min: 0.1, max: 86400, step: "any", value: 300, "aria-label": "Seconds to advance", "data-key": "own-seconds", disabled: off });
  const before = document.querySelector('[data-key="own-seconds"]');
  if (before) own.value = before.value;
  return [
    h("h2", "Clock"),
    h("p.row", h("span.big-clock", moment(now.now)), now.paused && badge("retried", "paused"), Math.abs(now.offset) > 0.5 && badge("running", `${span(now.offset)} ahead`)),
    off && h("p.muted", now.reason),
    h("div.row", now.paused ? h("button.primary", { type: "button", "data-key": "pause", onclick: () => move({ action: "resume" }) }, "Resume") : h("button", { type: "button", "data-key": "pause", disabled: off, onclick: () => move({ action: "pause" }) }, "Pause"),
      h("button", { type: "button", "data-key": "step", disabled: off, onclick: () => move({ action: "step" }) }, "Step to what is due next"),
      LEAPS.map(([seconds, text]) => h("button", { type: "button", "data-key": `leap-${seconds}`, disabled: off, onclick: () => move({ action: "advance", seconds }, `${text} later`) }, `+${text}`)),
      own, h("button", { type: "button", "data-key": "advance", disabled: off, onclick: () => move({ action: "advance", seconds: Number(own.value) }) }, "Advance")),
    now.waiting.length > 0 && h("p.muted", `Waiting: ${plural(now.waiting.length, "timer")}, the next in ${span(Math.max(0, now.waiting[0].inSeconds))} (${clock(now.waiting[0].at)}).`),
  ];
}

function faultForm(catalogue, loads) {
  const name = select(catalogue.map((each) => [each.name, each.name]), catalogue[0].name, { "data-key": "fault" });
  const seed = h("input", { type: "number", value: 0, step: 1 });
  const fields = h("div.cards");
  const text = h("p.muted");
  let inputs = new Map();
  const choose = () => {
    const kind = catalogue.find((each) => each.name === name.value);
    text.textContent = kind.text;
    inputs = new Map(kind.parameters.map((each) => [each, h("input", typeof each.default === "number" ? { type: "number", step: "any", value: each.default } : { value: each.default ?? "" })]));
    fill(fields, [...inputs].map(([each, input]) => field(each.name, input, each.text)), field("seed", seed, "the same seed, the same choices"));
  };
  name.addEventListener("change", choose);
  choose();
  return [h("h2", "Inject a fault"), h("form.stacked", { "data-form": "fault", onsubmit: (event) => {
    event.preventDefault();
    const parameters = Object.fromEntries([...inputs].filter(([each, input]) => input.value !== String(each.default ?? "")).map(([each, input]) => [each.name, typeof each.default === "number" ? Number(input.value) : input.value]));
    attempt(async () => { const answer = await post(["faults"], { name: name.value, seed: Number(seed.value), parameters }); loads.now(); return answer; }, `${name.value} is armed`);
  } }, field("Fault", name), text, fields, h("div.row", h("button.primary", { type: "submit" }, "Inject")))];
}

const clear = (body, loads) => attempt(async () => { const answer = await post(["faults", "clear"], body); loads.now(); return answer; }, (answer) => `${plural(answer.cleared, "fault")} cleared`);

const active = (faults, loads) => faults.length ? table("Armed faults", [
  ["fault", (each) => each.name],
  ["target", (each) => each.parameters.target],
  ["fired", (each) => `${each.fired}${each.parameters.count ? ` of ${each.parameters.count}` : ""}`, "num"],
  ["seed", (each) => each.seed, "num"],
  ["", (each) => h("button", { type: "button", "data-key": `clear-${each.id}`, onclick: () => clear({ id: each.id }, loads) }, "Clear")],
], faults) : empty("Nothing is armed.");

const timeline = (events) => events.length ? h("ol.stream", events.sort((one, other) => other.seq - one.seq).map((event) => h("li.fault", h("time", clock(event.at)), h("span.mark", "!"), h("span.who.clip", event.data.target ?? "clock"), h("span.what", event.kind === "clock.moved" ? event.data.text : `${event.data.name}, seed ${event.data.seed}`), event.requestId ?? event.data.requestId ? h("a.mono", { href: `#/trace/${event.requestId ?? event.data.requestId}` }, "trace") : h("span")))) : empty("Time runs as it does outside, and nothing was broken.");
