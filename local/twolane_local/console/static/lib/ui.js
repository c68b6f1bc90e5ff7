// The parts that several pages are made of.

import { crowded } from "./api.js";
import { fill, h, svg } from "./dom.js";
import { pretty } from "./format.js";

export const badge = (state, text = state) => h("span.badge", { class: state }, text);

export const empty = (...children) => h("p.empty", ...children);

/** A page's head: title, what it is for, and what stands beside it. */
export const head = (title, text, ...beside) => h("div.page-head", h("h1", title), ...beside, text && h("p", text));

/** A table; `columns` are `[label, cell(row), class?]`. */
export function table(label, columns, rows, { key, roomy = true } = {}) {
  const cells = (row) =>
    columns.map(([name, cell, kind]) => h("td", { class: kind ?? "", "data-label": name || false }, cell(row)));
  return h(
    "div.table-wrap", { tabIndex: 0, role: "region", "aria-label": label },
    h("table", { class: roomy ? "roomy" : "" },
      h("caption.visually-hidden", label),
      h("thead", h("tr", columns.map(([name, , kind]) => h("th", { scope: "col", class: kind ?? "" }, name || h("span.visually-hidden", "Actions"))))),
      h("tbody", rows.map((row) => h("tr", { "data-row": key ? key(row) : false }, cells(row))))),
  );
}

export const facts = (pairs) =>
  h("dl.facts", pairs.filter(([, value]) => value !== undefined && value !== null && value !== "").map(([name, value]) => [h("dt", name), h("dd", value)]));

export const count = (number, label, hot = false) => h("div.count", { class: hot ? "hot" : "" }, h("b", number), h("span", label));

/** Some content under a heading; JSON is indented. */
export const block = (title, content, kind = "") =>
  h("section", h("h3", title), h("pre", { class: kind, tabIndex: 0, role: "region", "aria-label": title }, pretty(content)));

export function toast(text, failed = false) {
  const note = h("div.toast", { class: failed ? "failed" : "" }, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), failed ? 9000 : 4500);
}

/** Run a change and show its outcome, good or bad. */
export async function attempt(change, done) {
  try {
    const answer = await change();
    if (done) toast(typeof done === "function" ? done(answer) : done);
    return answer;
  } catch (error) {
    toast(error.message, true);
    return null;
  }
}

/** A dialog; `act` gets called on the main button, and keeps it open by answering `null`. */
export function dialog(title, content, { action = "OK", danger = false, act, wide = false }) {
  const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, action);
  const cancel = h("button", { type: "button", onclick: () => box.close() }, "Cancel");
  const form = h("form.stacked", {
    method: "dialog",
    onsubmit: async (event) => {
      event.preventDefault();
      go.disabled = true;
      const answer = await act(form);
      go.disabled = false;
      if (answer !== null) box.close();
    },
  }, h("h2", { id: "dialog-title" }, title), content, h("div.row.end", cancel, go));
  const box = h("dialog", { "aria-labelledby": "dialog-title", class: wide ? "wide" : "", onclose: () => box.remove() }, form);
  document.body.append(box);
  box.showModal();
  return box;
}

/** A labelled field. */
let fields = 0;
export function field(label, input, hint) {
  const id = input.id || `field-${++fields}`;
  input.id = id;
  return h("div.field", h("label", { htmlFor: id }, label), input, hint && h("span.hint", hint));
}

export const select = (options, value, more = {}) =>
  h("select", more, options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));

/** Two lines over time: what came, what was done. */
export function plot(label, series) {
  const { sent, deleted } = series;
  const most = Math.max(1, ...sent, ...deleted);
  const line = (values) => values.map((value, index) => `${index ? "L" : "M"}${((index / (values.length - 1)) * 300).toFixed(1)} ${(46 - (value / most) * 42).toFixed(1)}`).join("");
  return svg("svg", { class: "plot", viewBox: "0 0 300 48", preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("line", { class: "base", x1: 0, x2: 300, y1: 47, y2: 47 }),
    svg("path", { class: "sent", d: line(sent), "vector-effect": "non-scaling-stroke" }),
    svg("path", { class: "deleted", d: line(deleted), "vector-effect": "non-scaling-stroke" }));
}

/** Show what `load` gives, and again when something happened, but at most once in `everyMs`. */
export function refreshing(load, everyMs = 1000) {
  let timer = null;
  let busy = false;
  let again = false;
  let over = false;
  const run = async () => {
    timer = null;
    if (over) return;
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      await load();
    } catch (error) {
      if (!over && error.name !== "AbortError") toast(error.message, true);
    }
    busy = false;
    if (again) {
      again = false;
      soon();
    }
  };
  // With many events, refresh less often, to leave the emulator its time.
  const soon = () => (timer ??= setTimeout(run, crowded() ? Math.max(everyMs, 3000) : everyMs));
  return { now: run, soon, stop: () => { over = true; clearTimeout(timer); } };
}

export { fill, h };
