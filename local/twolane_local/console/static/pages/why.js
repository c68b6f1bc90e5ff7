// Why something does not move, in a sentence.

import { get, listen } from "../lib/api.js";
import { fill, h } from "../lib/dom.js";
import { clock, short } from "../lib/format.js";
import { badge, empty, field, head, refreshing } from "../lib/ui.js";

export function show(main, [id]) {
  const input = h("input", { type: "search", value: id ?? "", placeholder: "id of a request, task or message", autocomplete: "off", spellcheck: false });
  const box = h("div.stacked");
  main.append(head("Why?", "Why a request, a task or a message is where it is, with the numbers."),
    h("form.filters", { onsubmit: (event) => { event.preventDefault(); location.hash = `#/why/${encodeURIComponent(input.value.trim())}`; } }, h("div.text", field("Id", input)), h("button.primary", { type: "submit" }, "Ask")), box);
  const load = id ? () => one(box, id) : () => all(box);
  const loads = refreshing(load, 1000);
  loads.now();
  const timer = setInterval(loads.soon, 2000);
  const deaf = listen(() => loads.soon());
  return () => { deaf(); loads.stop(); clearInterval(timer); };
}

const reasons = (answer) => answer.reasons.map((each) => h("p.reason", { class: each.state }, sentence(each.text)));
const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

async function one(box, id) {
  let answer;
  try {
    answer = await get(["why", id]);
  } catch (error) {
    fill(box, empty(error.message));
    return;
  }
  fill(box, h("div.row", h("h2.grow", `${answer.kind} `, h("code", answer.id)), badge(answer.state === "over" ? "ok" : answer.state, answer.state), h("a.button", { href: `#/trace/${answer.id}`, "data-key": "trace" }, "Trace")),
    answer.reasons.length ? reasons(answer) : empty("Nothing of it is under way."));
}

/** Without an id: everything that lies on a queue. */
async function all(box) {
  const { queues } = await get(["queues"]);
  const found = [];
  for (const queue of queues) {
    if (!(queue.visible + queue.inFlight + queue.delayed)) continue;
    const { messages } = await get(["queues", queue.name, "messages"], { limit: 10 });
    for (const message of messages) {
      const answer = await get(["why", message.id]).catch(() => null);
      if (answer) found.push([message, answer]);
    }
  }
  fill(box, found.length ? found.map(([message, answer]) => h("section.stacked", h("div.row", h("h3.grow", h("a", { href: `#/trace/${message.id}`, "data-key": message.id }, message.task?.name ?? "message", " ", h("code", short(message.id)))), h("span.muted", `sent ${clock(message.sentAt, false)}`), badge(answer.state)), reasons(answer))) : empty("No queue holds a message: nothing is stuck."));
}
