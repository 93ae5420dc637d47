// Pulls and creations under way. They go on while other rooms are open, and end with the page: the server stops a pull
// that nobody waits for, and takes it up again where it was.

import { lines } from "../lib/api.js";
import { announce } from "../lib/announce.js";

export const transfers = []; // {kind, name, status, digests: Map, abort, state, error, warnings}
let changed = () => {};

/** Who draws. */
export function onTransfer(draw) {
  changed = draw;
}

/** Start a pull or a creation; resolves when it has ended, to whether it succeeded. */
export async function begin(kind, name, body) {
  const transfer = {
    kind,
    name,
    status: "Asking the server …",
    digests: new Map(),
    abort: new AbortController(),
    state: "running",
    error: "",
    warnings: [],
  };
  transfers.unshift(transfer);
  changed();
  try {
    for await (const line of lines(`api/${kind}`, body, { signal: transfer.abort.signal })) {
      take(transfer, line);
      changed();
    }
    if (transfer.state === "running") throw new Error("the transfer ended before its end");
  } catch (error) {
    transfer.state = error.name === "AbortError" ? "cancelled" : "failed";
    transfer.error = error.name === "AbortError" ? "" : error.message;
  }
  announce(`${name}: ${{ done: "is here", cancelled: "cancelled", failed: transfer.error }[transfer.state]}`);
  changed();
  return transfer.state === "done";
}

function take(transfer, line) {
  transfer.status = line.status;
  if (line.digest && line.total) {
    transfer.digests.set(line.digest, { total: line.total, completed: line.completed ?? 0, at: performance.now() });
  }
  if (line.warnings) transfer.warnings.push(...line.warnings);
  if (line.status === "success") transfer.state = "done";
  measure(transfer);
}

const SPEED_OVER_MS = 4000;

function measure(transfer) {
  const now = performance.now();
  const { completed } = sums(transfer);
  transfer.marks = [...(transfer.marks ?? []).filter((mark) => now - mark.at < SPEED_OVER_MS), { at: now, completed }];
}

/** Bytes of all parts that are known by now. */
export function sums(transfer) {
  const parts = [...transfer.digests.values()];
  return {
    total: parts.reduce((sum, part) => sum + part.total, 0),
    completed: parts.reduce((sum, part) => sum + part.completed, 0),
  };
}

/** Bytes a second of late; NaN while nobody can say. */
export function speed(transfer) {
  const marks = transfer.marks ?? [];
  const took = (marks.at(-1)?.at - marks[0]?.at) / 1000;
  return took > 0.5 ? (marks.at(-1).completed - marks[0].completed) / took : NaN;
}

export function dismiss(transfer) {
  transfers.splice(transfers.indexOf(transfer), 1);
  changed();
}
