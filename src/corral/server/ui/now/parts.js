// The parts of the room Now: figures, requests, loaded models, engine. Templates only.

import { bytes, count, percent, rate, seconds, until } from "../lib/format.js";
import { html, nothing, repeat } from "../lib/html.js";

/** The figures at the top. */
export function tiles({ models, requests, status, totals }, samples) {
  const slots = models.reduce((sum, model) => sum + (model.slots ?? 0), 0);
  const active = models.reduce((sum, model) => sum + (model.active ?? 0), 0);
  const waiting = requests.filter((request) => request.state !== "running");
  const memory = status?.host.memory;
  const figures = [
    ["Tokens made", `${rate(samples.mean("speed"))} /s`],
    ["Prompts read", `${rate(samples.mean("reading"))} /s`],
    ["Slots in use", `${active} of ${slots}`],
    ["Waiting", waiting.length || "nobody", waiting.length ? `at most ${seconds(Math.max(...waiting.map((each) => each.wait_s)))}` : ""],
    ["From the cache", totals?.prompts ? percent(totals.cached / totals.prompts) : "–"],
    ["Memory free", memory ? bytes(memory.available) : "–", memory ? `of ${bytes(memory.total)}` : ""],
    ["This server", status?.server.memory ? bytes(status.server.memory) : "–"],
  ];
  return html`<dl class="tiles">${figures.map(([label, value, hint]) => html`<div><dt>${label}</dt>
    <dd>${value}${hint ? html` <span class="hint">${hint}</span>` : nothing}</dd></div>`)}</dl>`;
}

/** Who is served and who waits. */
export function requestsView(requests, stop) {
  if (!requests.length) return html`<p class="hint">None.</p>`;
  return html`<table class="cards">
    <thead>
      <tr><th scope="col">Model</th><th scope="col">From</th><th scope="col">State</th><th scope="col">Prompt</th><th scope="col">Made</th><th scope="col">Time</th><th scope="col"><span class="unseen">Do</span></th></tr>
    </thead>
    <tbody>${repeat(requests, (request) => request.id, (request) => requestRow(request, stop))}</tbody>
  </table>`;
}

function requestRow(request, stop) {
  const isRunning = request.state === "running";
  const word = isRunning ? "running" : `${request.state}, place ${request.position}, about ${seconds(request.wait_s)}`;
  const speed = isRunning && request.running_s > 0.5 && request.eval_tokens ? `, ${rate(request.eval_tokens / request.running_s)}/s` : "";
  return html`<tr>
    <th scope="row">${request.model}</th>
    <td data-label="From">${request.client || "–"} <span class="hint">${request.route}${request.priority === "background" ? ", background" : ""}</span></td>
    <td data-label="State">${word}</td>
    <td data-label="Prompt">${promptView(request)}</td>
    <td data-label="Made">${isRunning ? `${count(request.eval_tokens)}${speed}` : "–"}</td>
    <td data-label="Time">${seconds(isRunning ? request.running_s : request.waited_s)}</td>
    <td data-label="Do"><button type="button" aria-label="Stop the request for ${request.model}" @click=${() => stop(request)}>Stop</button></td>
  </tr>`;
}

/** How much of a prompt is read, while it is; then its length, and what of it nobody had to read. */
function promptView({ prompt_tokens: total, processed_tokens: read, cached_tokens: cached }) {
  if (!total) return "–";
  const known = cached ? html` <span class="hint">${percent(cached / total)} from the cache</span>` : nothing;
  if (read >= total) return html`${count(total)}${known}`;
  return html`<progress aria-label="Prompt read" max=${total} value=${read}></progress>
    <span class="hint">${count(read)} of ${count(total)} read</span>`;
}

/** What is loaded: slots, memory beside what was planned, threads, how long it stays. */
export function modelsView(models) {
  if (!models.length) return html`<p class="hint">None. A model is loaded by the first request for it.</p>`;
  return html`<ul class="loaded">${repeat(models, (model) => model.pid ?? model.name, modelView)}</ul>`;
}

function modelView(model) {
  const slots = Array.from({ length: model.slots ?? 0 }, (_, index) => index < model.active);
  const { memory = {}, planned = {} } = model;
  const facts = [
    ["Window", `${count(model.context_length)} tokens a slot`],
    ["Threads", model.threads || "–"],
    ["Stays", model.active ? "in use" : until(model.expires_at)],
    ["Loaded in", model.load_seconds ? seconds(model.load_seconds) : "–"],
    ["Kernels", model.kernels || "–"],
    ["Huge pages", model.huge_pages ? "on" : "off"],
    ...(model.node ? [["Node", model.node]] : []),
  ];
  const parts = [
    ["Weights", memory.weights, planned.weights],
    ["KV cache", memory.kv_cache, planned.kv_cache],
    ["Scratch", memory.compute, planned.compute],
    ["Process", memory.rss, planned.total],
    ...(memory.vram ? [["On GPUs", memory.vram, planned.vram]] : []),
  ];
  return html`<li>
    <h3>${model.name} <span class="hint">${model.state}</span></h3>
    <p class="slots"><span class="unseen">${model.active} of ${model.slots} slots in use</span>
      ${slots.map((isBusy) => html`<span aria-hidden="true" class=${isBusy ? "slot busy" : "slot"}></span>`)}</p>
    <dl class="facts">${facts.map(([label, value]) => html`<dt>${label}</dt><dd>${value}</dd>`)}</dl>
    <table class="memory">
      <thead><tr><th scope="col">Memory</th><th scope="col">now</th><th scope="col">planned</th><th scope="col"><span class="unseen">Share</span></th></tr></thead>
      <tbody>${parts.map(memoryRow)}</tbody>
    </table>
    ${sandboxView(model.sandbox)}
  </li>`;
}

/** A part of a model's memory beside what was planned for it; more than that is a reason to look. */
function memoryRow([name, now, planned]) {
  const most = Math.max(now ?? 0, planned ?? 0);
  return html`<tr>
    <th scope="row">${name}</th><td>${bytes(now)}</td><td>${bytes(planned)}</td>
    <td class="share">${most && planned
      ? html`<meter aria-label="${name}, of what was planned" min="0" max=${most} high=${planned} value=${now ?? 0}></meter>`
      : nothing}</td>
  </tr>`;
}

function sandboxView(sandbox) {
  if (!sandbox?.active) return nothing;
  const missing = Object.entries(sandbox.missing ?? {});
  return html`<p class="hint">Sandbox: ${sandbox.active.length ? sandbox.active.join(", ") : "none"}</p>
    ${missing.map(([name, why]) => html`<p class="hint">Without ${name}: ${why}</p>`)}`;
}

/** The machines of a cluster: a line each. */
export function nodesView(nodes) {
  return html`<table class="cards">
    <thead>
      <tr><th scope="col">Node</th><th scope="col">State</th><th scope="col">Cores</th><th scope="col">Memory free</th><th scope="col">GPU memory free</th><th scope="col">Models</th></tr>
    </thead>
    <tbody>${repeat(nodes, (node) => node.name, nodeRow)}</tbody>
  </table>`;
}

function nodeRow(node) {
  return html`<tr>
    <th scope="row">${node.name}</th>
    <td data-label="State">${node.state}</td>
    <td data-label="Cores">${node.cores || "–"}</td>
    <td data-label="Memory free">${bytes(node.available_bytes)} of ${bytes(node.memory_bytes)}</td>
    <td data-label="GPU memory free">${node.vram_bytes ? `${bytes(node.vram_free_bytes)} of ${bytes(node.vram_bytes)}` : "–"}</td>
    <td data-label="Models">${node.models.join(", ") || "none"}</td>
  </tr>`;
}

/** Engine, host, limits and doors, as /api/status tells them; what a newer server adds is shown as it is. */
export function engineView({ status, models }) {
  const builds = [...new Set(models.map((model) => model.engine).filter((build) => build && !build.includes("unknown")))];
  const { engine, host, limits, security, store } = status;
  const facts = [
    ["Corral", status.version],
    ["Engine", [engine.name, ...builds].join(", build ")],
    ...Object.entries(engine).filter(([key]) => key !== "name").map(([key, value]) => [key, shown(value)]),
    ["Cores", host.cores],
    ["GPU memory", host.vram.total ? `${bytes(host.vram.free)} free of ${bytes(host.vram.total)}` : "no GPU in use"],
    ["Disk", `${bytes(store.free)} free`],
    ["Most waiting", count(limits.queue)],
    ["Slots a model", limits.slots_per_model || "automatic"],
    ["Models at once", limits.loaded_models || "automatic"],
    ["Idle models stay", limits.keep_alive_seconds < 0 ? "for ever" : seconds(limits.keep_alive_seconds)],
    ["Sandbox", security.sandbox ? "on" : "off"],
    ["API keys", security.keys ? "asked for" : "none"],
    ["Reached from", security.beyond_this_machine ? "beyond this machine" : "this machine only"],
  ];
  return html`<dl class="facts wide">${facts.map(([label, value]) => html`<dt>${label}</dt><dd>${value}</dd>`)}</dl>`;
}

function shown(value) {
  return typeof value === "object" && value !== null ? Object.entries(value).map(([key, each]) => `${key} ${shown(each)}`).join(", ") : String(value);
}
