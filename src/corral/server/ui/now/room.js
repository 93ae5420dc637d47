// The room Now: what the server is doing this second, and in the last minutes. It asks once a second while it is seen.

import "./plot.js";
import { call } from "../lib/api.js";
import { announce } from "../lib/announce.js";
import { bytes, rate } from "../lib/format.js";
import { drawer, html, nothing, render } from "../lib/html.js";
import { engineView, modelsView, nodesView, requestsView, tiles } from "./parts.js";
import { progress, Samples } from "./samples.js";

const EVERY_MS = 1000;
const PLOTS = [
  { key: "speed", title: "Tokens made", label: "tokens/s", format: (value) => rate(value) },
  { key: "reading", title: "Prompts read", label: "tokens/s", format: (value) => rate(value) },
  { key: "memory", title: "Memory of models", label: "", format: (value) => bytes(value) },
  { key: "waiting", title: "Requests waiting", label: "", format: (value) => String(Math.round(value)) },
].map((plot) => ({ ...plot, kind: { names: [plot.title], format: plot.format } }));

const samples = new Samples();
const state = { models: [], requests: [], nodes: [], status: null, totals: null, error: "" };
let root = null;
let timer = 0;
const draw = drawer(() => root && render(view(), root));

export function enter(element) {
  root = element;
  document.addEventListener("visibilitychange", wake);
  draw();
  return look();
}

export function visit() {
  return look();
}

export function leave() {
  clearTimeout(timer);
  document.removeEventListener("visibilitychange", wake);
  render(nothing, root);
  root = null;
}

function wake() {
  if (!document.hidden) look();
}

/** Ask everything once, and again in a second; a page that nobody sees asks nothing. */
async function look() {
  clearTimeout(timer);
  if (!root || document.hidden) return;
  try {
    const [ps, queue, metrics, status, cluster] = await Promise.all([
      call("GET", "api/ps?verbose=1"),
      call("GET", "api/requests"),
      call("GET", "metrics"),
      call("GET", "api/status?verbose=1"),
      call("GET", "api/cluster"),
    ]);
    take(ps.models, queue.requests, metrics, status);
    state.nodes = cluster.nodes;
  } catch (error) {
    state.error = error.message;
  }
  draw();
  clearTimeout(timer);
  if (root) timer = setTimeout(look, EVERY_MS);
}

function take(models, requests, metrics, status) {
  const totals = progress(metrics, requests);
  samples.add({
    at: Date.now() / 1000,
    ...totals,
    memory: models.reduce((sum, model) => sum + (model.memory?.rss || model.size), 0),
    running: requests.filter((request) => request.state === "running").length,
    waiting: requests.filter((request) => request.state !== "running").length,
  });
  Object.assign(state, { models, requests, status, totals, error: "" });
}

async function stop(request) {
  try {
    await call("DELETE", `api/requests/${encodeURIComponent(request.id)}`);
    announce(`The request for ${request.model} is stopped`);
  } catch (error) {
    state.error = error.status === 404 ? "" : error.message; // it has just ended by itself
  }
  await look();
}

function view() {
  return html`<div class="page">
    <h1>Now</h1>
    ${state.error ? html`<p class="error" role="alert">${state.error}</p>` : nothing} ${tiles(state, samples)}
    <section aria-labelledby="requests"><h2 id="requests">Requests</h2>${requestsView(state.requests, stop)}</section>
    <section aria-labelledby="loaded"><h2 id="loaded">Loaded models</h2>${modelsView(state.models, state.status)}</section>
    ${state.nodes.length ? html`<section aria-labelledby="nodes"><h2 id="nodes">Nodes</h2>${nodesView(state.nodes)}</section>` : nothing}
    <section aria-labelledby="minutes"><h2 id="minutes">The last minutes</h2><div class="plots">${PLOTS.map(plotView)}</div></section>
    ${state.status ? html`<section aria-labelledby="server"><h2 id="server">Engine and server</h2>${engineView(state)}</section>` : nothing}
  </div>`;
}

function plotView({ key, title, label, kind, format }) {
  const last = samples.last?.[key] ?? 0;
  const most = Math.max(0, ...samples.rows.map((row) => row[key]));
  return html`<figure>
    <figcaption>${title} <span class="hint">${format(last)} ${label} now, at most ${format(most)}</span></figcaption>
    <corral-plot aria-hidden="true" .kind=${kind} .data=${samples.series(key)}></corral-plot>
  </figure>`;
}
