// The control API, and the journal's stream.

const token = document.querySelector('meta[name="twolane-token"]').content;

/** What went wrong, in the API's own words. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function answer(response) {
  const value = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, value.detail ?? `HTTP ${response.status}`);
  return value;
}

/** An address of parts and parameters, each encoded. */
export function path(parts, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const tail = given.length ? `?${new URLSearchParams(given)}` : "";
  return `/api/${parts.map(encodeURIComponent).join("/")}${tail}`;
}

export const get = async (parts, query, signal) => answer(await fetch(path(parts, query), { signal }));

export const post = async (parts, body = {}) =>
  answer(
    await fetch(path(parts), {
      method: "POST",
      headers: { "content-type": "application/json", "x-twolane-token": token },
      body: JSON.stringify(body),
    }),
  );

const listeners = new Set();
let source = null;
let busy = false;

/** Whether more happens than can be shown. */
export const crowded = () => busy;

/** Call `tell` with each `{events, skipped, last}`, until the returned function is called. */
export function listen(tell) {
  listeners.add(tell);
  if (!source) connect();
  return () => listeners.delete(tell);
}

function connect() {
  source = new EventSource(path(["journal", "stream"]));
  source.onmessage = (message) => {
    const began = performance.now();
    const news = JSON.parse(message.data);
    busy = news.skipped > 0;
    for (const tell of [...listeners]) tell(news);
    performance.measure("twolane:update", { start: began, end: performance.now() });
  };
  source.onopen = () => state(true);
  source.onerror = () => state(false);
}

const state = (open) => document.dispatchEvent(new CustomEvent("twolane:link", { detail: open }));
