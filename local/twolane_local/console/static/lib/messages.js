// The messages of one queue, and what can be done about them.

import { get, post } from "./api.js";
import { fill, h } from "./dom.js";
import { bytes, clock, plural, pretty, short, span, until } from "./format.js";
import { attempt, badge, block, dialog, empty, facts, field, select, table } from "./ui.js";
import { failure } from "./waterfall.js";

const STATES = { visible: "ok", "in flight": "running", delayed: "waiting" };

/** A part of the page that shows the messages of the queue that `update` names. */
export function messages(box, name) {
  const chosen = new Set();
  let queue = null;
  let queues = [];
  let held = [];
  const load = async () => {
    const { messages: found, more, now } = await get(["queues", name, "messages"], { limit: 100 });
    held = found;
    for (const id of [...chosen]) if (!found.some((each) => each.id === id)) chosen.delete(id);
    draw(found, more, now);
  };
  const draw = (found, more, now) => {
    const dead = queue.deadLetterOf.length > 0;
    fill(box, h("div.row", h("h2.grow", `Messages on ${name}`), tools(dead)),
      found.length ? table(`Messages on ${name}`, columns(dead, now), found, { key: (each) => each.id }) : empty(dead ? "No dead letters: all work ended well, or is still tried." : "The queue is empty."),
      more && h("p.muted", `The first ${found.length} in the order of sending.`));
  };
  const columns = (dead, now) => [
    dead && ["", (each) => h("input", { type: "checkbox", "data-key": `pick-${each.id}`, "aria-label": `Choose message ${short(each.id)}`, checked: chosen.has(each.id), onchange: (event) => { event.target.checked ? chosen.add(each.id) : chosen.delete(each.id); } })],
    ["message", (each) => h("button.plain", { type: "button", "data-key": each.id, onclick: () => look(each) }, each.task?.name ?? (each.problem ? "not a task" : "message"), " ", h("code", short(each.id)))],
    ["arguments", (each) => h("span.mono", args(each))],
    ["state", (each) => badge(STATES[each.state] ?? "", each.state)],
    ["receives", (each) => each.receiveCount, "num"],
    !dead && ["next visible", (each) => h("span.num", each.state === "visible" ? "now" : until(each.visibleAt, now))],
    dead && ["error", (each) => h("span", each.error ? (each.error.type ?? each.error.message) : "–")],
    ["sent", (each) => h("span.num.nowrap", clock(each.sentAt, false))],
    ["", (each) => h("div.row", dead && h("button", { type: "button", "data-key": `redrive-${each.id}`, onclick: () => redrive([each]) }, "Redrive"), dead && h("button", { type: "button", "data-key": `edit-${each.id}`, onclick: () => edit(each) }, "Edit …"), h("a.button", { href: `#/why/${each.id}` }, "Why?"))],
  ].filter(Boolean);
  const tools = (dead) => [
    h("button", { type: "button", "data-key": "send", onclick: send }, "Send …"),
    dead && h("button.primary", { type: "button", "data-key": "redrive-all", disabled: !held.length, onclick: () => redrive(chosen.size ? held.filter((each) => chosen.has(each.id)) : null) }, "Redrive chosen or all"),
    h("button.danger", { type: "button", "data-key": "purge", disabled: !held.length, onclick: purge }, "Purge …"),
  ];

  const redrive = (which) => attempt(async () => {
    const answer = await post(["queues", name, "redrive"], which ? { messageIds: which.map((each) => each.id) } : {});
    if (answer.failed.length) throw new Error(`${answer.failed.length} not redriven: ${answer.failed[0].why}`);
    chosen.clear();
    await load();
    return answer;
  }, (answer) => `${plural(answer.redriven.length, "message")} redriven${answer.redriven.length ? ` to ${answer.redriven[0].queue}` : ""}`);

  const edit = async (each) => {
    const whole = await get(["queues", name, "messages", each.id]);
    const { task } = whole;
    const json = (value) => h("textarea", { rows: 5, value: JSON.stringify(value, null, 2), spellcheck: false });
    const hidden = task && !task.args;
    const inputs = task ? { args: json(task.args ?? []), kwargs: json(task.kwargs ?? {}) } : { body: h("textarea", { rows: 10, value: pretty(whole.body), spellcheck: false }) };
    const note = hidden ? "The publisher hides its arguments; the text here replaces them." : "";
    dialog(`Edit and redrive ${task?.name ?? short(each.id)}`, [note && h("p.muted", note), Object.entries(inputs).map(([label, input]) => field(label, input))], {
      action: "Redrive",
      act: () => attempt(async () => {
        const change = task ? { edits: { [each.id]: { args: JSON.parse(inputs.args.value), kwargs: JSON.parse(inputs.kwargs.value) } } } : { bodies: { [each.id]: inputs.body.value } };
        const answer = await post(["queues", name, "redrive"], { messageIds: [each.id], ...change });
        if (answer.failed.length) throw new Error(answer.failed[0].why);
        await load();
        return answer;
      }, "Redriven with the change"),
    });
  };

  const send = () => {
    const body = h("textarea", { rows: 8, required: true, spellcheck: false });
    const delay = h("input", { type: "number", min: 0, max: 900, value: 0 });
    const group = queue.fifo ? h("input", { required: true, value: "by-hand" }) : null;
    dialog(`Send to ${name}`, [field("Body", body, "As SendMessage takes it. For a task, use the Tasks page."), field("Delay in seconds", delay), group && field("Message group", group)], {
      action: "Send",
      act: () => attempt(async () => {
        const answer = await post(["queues", name, "send"], { body: body.value, ...(Number(delay.value) ? { delaySeconds: Number(delay.value) } : {}), ...(group ? { groupId: group.value, deduplicationId: crypto.randomUUID() } : {}) });
        await load();
        return answer;
      }, (answer) => `Sent as ${short(answer.messageId)}`),
    });
  };

  const purge = () => dialog(`Purge ${name}?`, h("p", `All ${held.length >= 100 ? "" : held.length} messages go, those in flight too. This cannot be undone.`), {
    action: "Purge", danger: true,
    act: () => attempt(async () => {
      const answer = await post(["queues", name, "purge"]);
      await load();
      return answer;
    }, (answer) => `${plural(answer.purged, "message")} purged`),
  });

  const look = async (each) => {
    const whole = await attempt(() => get(["queues", name, "messages", each.id]));
    if (!whole) return;
    dialog(whole.task?.name ?? `Message ${short(whole.id)}`, [
      facts([["message", h("code", whole.id)], ["task", whole.task?.id && h("a", { href: `#/trace/${whole.task.id}`, onclick: (event) => event.target.closest("dialog").close() }, whole.task.id)], ["state", whole.state], ["receives", whole.receiveCount], ["sent", clock(whole.sentAt)], ["next visible", clock(whole.visibleAt)], ["size", bytes(whole.bytes)], ["came from", whole.source], ["problem", whole.problem]]),
      whole.error && failure(whole.error),
      whole.task && block("Arguments", args(whole)),
      block("Body", whole.body),
      Object.keys(whole.messageAttributes).length > 0 && block("Attributes", whole.messageAttributes),
      block("System attributes", whole.attributes),
    ], { action: "Delete this message", danger: true, act: () => attempt(async () => {
      const answer = await post(["queues", name, "delete"], { messageIds: [whole.id] });
      await load();
      return answer;
    }, "Deleted") });
  };

  return {
    update(next, all) {
      const other = next.name !== name;
      [name, queue, queues] = [next.name, next, all];
      if (other) chosen.clear();
      return load().catch(() => {});
    },
    queues: () => queues,
  };
}

/** A task's arguments as a call has them. */
export function args({ task, body }) {
  if (!task) return (body ?? "").slice(0, 120);
  if (!task.args) return `${task.argsRepr ?? ""} ${task.kwargsRepr ?? ""}`.trim() || "hidden";
  const named = Object.entries(task.kwargs ?? {}).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return [...task.args.map((value) => JSON.stringify(value)), ...named].join(", ");
}

export { select, span };
