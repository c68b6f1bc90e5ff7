// Queues with their depths, and the messages on one of them.

import { get, listen } from "../lib/api.js";
import { fill, h } from "../lib/dom.js";
import { plural, span } from "../lib/format.js";
import { badge, count, empty, head, plot, refreshing } from "../lib/ui.js";
import { messages } from "../lib/messages.js";

export function show(main, [name]) {
  const cards = h("div.cards");
  const box = h("div.stacked");
  main.append(head("Queues", "What waits, what is in flight, what is delayed; nothing here receives a message."), h("div.stacked", cards, box));
  let table = null;
  const load = async () => {
    const { queues } = await get(["queues"]);
    queues.sort((one, other) => one.deadLetterOf.length - other.deadLetterOf.length);
    const chosen = queues.find((each) => each.name === name) ?? queues[0];
    fill(cards, queues.length ? queues.map((each) => card(each, each === chosen)) : empty("The stack has no queue."));
    if (!chosen) return;
    table ??= messages(box, chosen.name);
    table.update(chosen, queues);
  };
  const loads = refreshing(load, 1000);
  loads.now();
  const timer = setInterval(loads.soon, 5000);
  const deaf = listen((news) => news.events.some((event) => event.kind.startsWith("message.") || event.kind.startsWith("queue.")) && loads.soon());
  return () => { deaf(); loads.stop(); clearInterval(timer); };
}

function card(queue, chosen) {
  const dead = queue.deadLetterOf.length > 0;
  const hot = dead && queue.visible + queue.inFlight > 0;
  return h("section.card.stacked", { class: hot ? "alert" : "", "aria-label": queue.name },
    h("div.row", h("h2.grow.clip", h("a", { href: `#/queues/${encodeURIComponent(queue.name)}`, "aria-current": chosen ? "true" : false, "data-key": queue.name }, queue.name)), dead && badge(hot ? "failed" : "waiting", "dead letters"), queue.fifo && badge("waiting", "FIFO")),
    h("div.counts", count(queue.visible, "visible", hot), count(queue.inFlight, "in flight"), count(queue.delayed, "delayed"), count(queue.oldestAgeSeconds === undefined ? "–" : span(queue.oldestAgeSeconds), "oldest")),
    plot(`${queue.name}: messages sent and deleted in the last three minutes`, queue.throughput),
    h("p.legend", h("span", h("i"), "sent"), h("span", h("i.deleted"), "deleted"), h("span", "3 min")),
    h("p.muted", about(queue)));
}

function about(queue) {
  if (queue.deadLetterOf.length) return `Takes what ${queue.deadLetterOf.join(" and ")} gave up.`;
  const readers = queue.mappings.map((each) => `${each.function}${each.enabled ? "" : " (disabled)"}, ${each.underWay} of ${each.maximumConcurrency ?? each.allowed} batches under way`);
  const dead = queue.deadLetterQueue ? ` To ${queue.deadLetterQueue} after ${plural(queue.maxReceiveCount, "receive")}.` : "";
  const noisy = Object.entries(queue.noisyGroups ?? {}).map(([group, visible]) => ` Quiet message groups come before ${group}, which is noisy with ${visible} visible.`);
  return `${readers.length ? `Read by ${readers.join("; ")}.` : "No mapping reads it."}${dead}${noisy.join("")}`;
}
