// Numbers and times as people read them. Pure.

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** 92871040 -> "93 MB" */
export function bytes(count) {
  if (!Number.isFinite(count)) return "–";
  let unit = 0;
  let value = Math.abs(count);
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const shown = unit === 0 || value >= 99.5 ? value.toFixed(0) : value >= 9.95 ? value.toFixed(1) : value.toFixed(2);
  return `${count < 0 ? "−" : ""}${shown} ${UNITS[unit]}`;
}

/** 12345 -> "12,345" */
export function count(value) {
  return Number.isFinite(value) ? Math.round(value).toLocaleString("en-US") : "–";
}

/** 0.034 -> "34 ms", 75 -> "1 min 15 s" */
export function seconds(value) {
  if (!Number.isFinite(value) || value < 0) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  if (value < 3600) return parts(value, 60, "min", 1, "s");
  if (value < 172800) return parts(value, 3600, "h", 60, "min");
  return `${Math.round(value / 86400)} days`;
}

/** Two units, the smaller one only where there is something of it. */
function parts(value, large, largeName, small, smallName) {
  const all = Math.round(value / small);
  const rest = all % (large / small);
  return `${Math.floor(all / (large / small))} ${largeName}${rest ? ` ${rest} ${smallName}` : ""}`;
}

/** 61.234 -> "61.2" */
export function rate(value) {
  return Number.isFinite(value) ? value.toFixed(value < 100 ? 1 : 0) : "–";
}

/** 0.6667 -> "67 %" */
export function percent(share) {
  return Number.isFinite(share) ? `${Math.round(share * 100)} %` : "–";
}

/** When a model goes: "in 4 min", "stays" for Ollama's 292 years. */
export function until(text, now = Date.now()) {
  const left = (Date.parse(text) - now) / 1000;
  if (!Number.isFinite(left)) return "–";
  if (left > 10 * 365 * 86400) return "stays";
  return left <= 0 ? "now" : `in ${seconds(Math.ceil(left))}`;
}

/** A date as this browser's language has it. */
export function day(value) {
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? "–" : date.toLocaleDateString(undefined, { dateStyle: "medium" });
}
