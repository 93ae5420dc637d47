// What the server was asked every second, as figures and as series over the last minutes. Pure.

const MOST = 300; // samples: five minutes at one a second

/** The sum of a counter of /metrics over all its labels but those given: `total(text, "corral_tokens", {kind: "eval"})`. */
export function total(text, name, labels = {}) {
  let sum = 0;
  for (const line of text.split("\n")) {
    if (!line.startsWith(`${name}_total{`) && !line.startsWith(`${name}_total `)) continue;
    const isMeant = Object.entries(labels).every(([key, value]) => line.includes(`${key}="${value}"`));
    if (isMeant) sum += Number(line.slice(line.lastIndexOf(" ") + 1)) || 0;
  }
  return sum;
}

/** Tokens that were made, and those of prompts that were read, not found in the cache, so far; requests under way included. */
export function progress(metrics, requests) {
  const sum = (key) => requests.reduce((so_far, request) => so_far + (request[key] ?? 0), 0);
  const cached = total(metrics, "corral_tokens", { kind: "cached" });
  const prompts = total(metrics, "corral_tokens", { kind: "prompt" });
  return {
    made: total(metrics, "corral_tokens", { kind: "eval" }) + sum("eval_tokens"),
    read: prompts - cached + sum("processed_tokens") - sum("cached_tokens"),
    cached,
    prompts,
  };
}

/** A window over the last samples, with rates between two of them. */
export class Samples {
  constructor(most = MOST) {
    this.most = most;
    this.rows = []; // {at, made, read, memory, running, waiting}
  }

  get last() {
    return this.rows.at(-1);
  }

  add(row) {
    const before = this.last;
    const took = before ? row.at - before.at : 0;
    // a run that failed takes its tokens with it: no rate is less than nothing
    row.speed = took > 0 ? Math.max(0, row.made - before.made) / took : 0;
    row.reading = took > 0 ? Math.max(0, row.read - before.read) / took : 0;
    this.rows.push(row);
    if (this.rows.length > this.most) this.rows.shift();
  }

  /** [times, values…] as a plot wants them. */
  series(...keys) {
    return [this.rows.map((row) => row.at), ...keys.map((key) => this.rows.map((row) => row[key]))];
  }

  /** The mean of a rate over the last seconds. */
  mean(key, span = 5) {
    const since = (this.last?.at ?? 0) - span;
    const rows = this.rows.slice(1).filter((row) => row.at > since);
    return rows.length ? rows.reduce((sum, row) => sum + row[key], 0) / rows.length : 0;
  }
}
