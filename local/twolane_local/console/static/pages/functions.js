// Functions: their present environments, and their recent figures.

import { get, listen, post } from "../lib/api.js";
import { fill, h } from "../lib/dom.js";
import { clock, millis, moment, plural, short } from "../lib/format.js";
import { attempt, badge, block, count, dialog, empty, facts, field, head, refreshing, table } from "../lib/ui.js";

export function show(main) {
  const box = h("div.cards.broad");
  main.append(head("Functions", "Execution environments now, and invocations since the journal begins."), box);
  const load = async () => {
    const { functions } = await get(["functions"]);
    fill(box, functions.length ? functions.map(card) : empty("The stack has no function."));
  };
  const loads = refreshing(load, 700);
  loads.now();
  const deaf = listen((news) => news.events.some((event) => /^(invocation|environment)\./.test(event.kind)) && loads.soon());
  return () => { deaf(); loads.stop(); };
}

function card(each) {
  const { concurrency: now } = each;
  return h("section.card.stacked", { "aria-label": each.name },
    h("div.row", h("h2.grow.clip", each.name), h("button", { type: "button", "data-key": `invoke-${each.name}`, onclick: () => invoke(each) }, "Invoke …")),
    h("div.counts", count(each.invocations, "invocations"), count(each.errors, "errors", each.errors > 0), count(each.throttles, "throttles", each.throttles > 0), each.recursiveInvocationsDropped ? count(each.recursiveInvocationsDropped, "dropped as recursive", true) : null, count(each.coldStarts, "cold starts")),
    facts([
      ["concurrency", `${now.busy} of ${now.limit}${now.reserved === null ? "" : " (reserved)"}${now.waiting ? `, ${plural(now.waiting, "event")} waiting` : ""}`],
      ["p50, p95", `${millis(each.p50Ms)}, ${millis(each.p95Ms)}`],
      ["memory", `${each.maxMemoryMb ?? "–"} of ${each.memoryMb} MB`],
      ["timeout", `${each.timeoutSeconds} s`],
      ["handler", h("code", each.handler)],
    ]),
    each.environments.length ? h("div.envs", environments(each)) : h("p.muted", "No execution environment now."));
}

const COLORS = { cold: "retried", busy: "running", frozen: "waiting" };

const environments = ({ name, environments: all }) =>
  table(`${name}: environments`, [
    ["id", (one) => h("span.mono", one.id)],
    ["state", (one) => [badge(COLORS[one.state], one.state), one.requestId && [" ", h("a.mono", { href: `#/trace/${one.requestId}`, "data-key": one.requestId }, short(one.requestId))]]],
    ["since", (one) => h("time", { title: moment(one.since) }, clock(one.since, false)), "num"],
    ["memory", (one) => (one.memoryMb === null ? "–" : `${one.memoryMb} MB`), "num nowrap"],
    ["invocations", (one) => one.invocations.toLocaleString("en"), "num"],
  ], all, { key: (one) => `${name}-${one.id}`, roomy: false });

function invoke(each) {
  const event = h("textarea", { rows: 10, value: "{}", spellcheck: false });
  const out = h("div.stacked");
  dialog(`Invoke ${each.name}`, [field("Event", event, "JSON, as Lambda hands it to the handler"), out], {
    action: "Invoke",
    act: async () => {
      const answer = await attempt(() => post(["functions", each.name, "invoke"], { event: JSON.parse(event.value) }));
      if (answer) fill(out, facts([["took", millis(answer.durationMs)], ["error", answer.error], ["request", h("code", answer.requestId)]]), block(answer.error ? "Error" : "Response", answer.payload), answer.log && block("Log", answer.log));
      return null;
    },
  });
}
