// Times, sizes and names as people read them.

const pad = (value, digits = 2) => String(value).padStart(digits, "0");

/** `14:03:05.123`, local time. */
export function clock(at, millis = true) {
  const date = new Date(at * 1000);
  const text = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  return millis ? `${text}.${pad(date.getMilliseconds(), 3)}` : text;
}

/** A date with its time, local. */
export function moment(at) {
  const date = new Date(at * 1000);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${clock(at, false)}`;
}

/** A span of seconds: `340 µs`, `12 ms`, `1.40 s`, `3 min 5 s`, `2 h 10 min`. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const value = Math.abs(seconds);
  if (value < 0.001) return value === 0 ? "0" : `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${value < 0.01 ? (value * 1000).toFixed(1) : Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(value < 10 ? 2 : 1)} s`;
  const whole = Math.round(value);
  if (value < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (value < 172800) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.round(value / 86400)} days`;
}

export const millis = (value) => (value === null || value === undefined ? "–" : span(value / 1000));

/** `in 41 s` or `41 s ago`. */
export const until = (at, now) => (at >= now ? `in ${span(at - now)}` : `${span(now - at)} ago`);

export function bytes(value) {
  if (value < 1024) return `${value} B`;
  return value < 1048576 ? `${(value / 1024).toFixed(1)} kB` : `${(value / 1048576).toFixed(1)} MB`;
}

/** JSON, indented, if it is JSON; else the text as it is. */
export function pretty(value) {
  if (typeof value !== "string") return JSON.stringify(value, null, 2);
  try {
    const parsed = JSON.parse(value);
    return typeof parsed === "object" ? JSON.stringify(parsed, null, 2) : value;
  } catch {
    return value;
  }
}

export const short = (id) => (id ?? "").slice(0, 8);

/** A task's name without its package. */
export const leaf = (name) => name.split(".").at(-1);

export const plural = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
