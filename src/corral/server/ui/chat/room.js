// The room Chat: conversations on the left, the open one in the middle, its settings on the right when they are wanted.

import "../lib/markdown.js";
import { bytes, count } from "../lib/format.js";
import { drawer, html, keyed, nothing, render, repeat } from "../lib/html.js";
import { composer, suggest } from "./composer.js";
import { isNarrow, list } from "./list.js";
import { messageView } from "./message.js";
import { prepare, settings } from "./settings.js";
import * as chat from "./state.js";

let root = null;
let follows = true; // the newest text is kept in sight, until somebody scrolls up
const draw = drawer(() => root && render(view(), root));
const grown = new ResizeObserver(() => follow());

export async function enter(element, id) {
  root = element;
  chat.onChange(draw);
  draw();
  await Promise.all([visit(id), chat.loadModels()]);
  field()?.focus();
}

const WITH = "with/"; // #/chat/with/<model>: a new chat with it

export async function visit(id) {
  if (id?.startsWith(WITH)) {
    history.replaceState(null, "", "#/chat");
    await chat.openWith(id.slice(WITH.length));
  } else {
    await chat.open(id || chat.state.current?.id);
  }
  if (chat.state.models !== null && !chat.state.current.model) await chat.loadModels();
  follows = true;
  draw();
  requestAnimationFrame(follow);
}

export function leave() {
  grown.disconnect();
  render(nothing, root);
  root = null;
}

/** A key that no field has taken; true when it meant something here. */
export function pressed(event) {
  const { key, altKey } = event;
  if (key === "Escape" && chat.running() && !chat.state.editing) chat.running().stop();
  else if (altKey && key.toLowerCase() === "n") startNew();
  else if (altKey && key.toLowerCase() === "m") field()?.focus();
  else if (altKey && key.toLowerCase() === "r") chat.again();
  else if (altKey && key === "ArrowUp") step(-1);
  else if (altKey && key === "ArrowDown") step(1);
  else return false;
  return true;
}

function field() {
  return document.getElementById("say");
}

function scroller() {
  return root?.querySelector(".messages");
}

function follow() {
  const box = scroller();
  if (box && follows) box.scrollTop = box.scrollHeight;
}

function scrolled(event) {
  const box = event.target;
  const before = follows;
  follows = box.scrollHeight - box.scrollTop - box.clientHeight < 60;
  if (follows !== before) draw();
}

function jump() {
  const down = () => {
    follows = true;
    follow();
    draw();
    field()?.focus();
  };
  return html`<button type="button" class="jump" @click=${down}><span aria-hidden="true">↓</span> To the newest</button>`;
}

function startNew() {
  chat.state.current = null;
  history.replaceState(null, "", "#/chat");
  visit("").then(() => field()?.focus());
}

function step(by) {
  const all = chat.state.conversations;
  const next = all[all.findIndex((each) => each.id === chat.state.current?.id) + by];
  if (next) location.hash = `#/chat/${next.id}`;
}

// ---- the view

function view() {
  const { current } = chat.state;
  return html`<details class="list" ?open=${!isNarrow()}>
      <summary>Chats</summary>
      ${list(startNew)}
    </details>
    <section class="conversation" aria-label="Conversation">
      ${current ? html`${head(current)} ${messages()} ${follows ? nothing : jump()} ${composer(draw)}` : nothing}
    </section>
    ${current && chat.state.panel ? keyed(current.id, settings(draw)) : nothing}`;
}

function head(current) {
  const { models } = chat.state;
  const choose = (event) => {
    current.model = event.target.value;
    chat.save();
    if (chat.state.panel) prepare(draw);
  };
  const names = models?.map((model) => model.name) ?? [];
  const isGone = current.model && models !== null && !names.includes(current.model);
  return html`<div class="head">
    <h1>${current.title}</h1>
    <label class="model"><span class="unseen">Model</span>
      <select @change=${choose}>
        ${isGone ? html`<option value=${current.model} selected>${current.model} (not here)</option>` : nothing}
        ${names.map((name) => html`<option value=${name} ?selected=${name === current.model}>${name}</option>`)}
      </select></label>
    ${windowMeter()}
    <button type="button" id="settings" aria-expanded=${chat.state.panel ? "true" : "false"} @click=${togglePanel}>Settings</button>
  </div>`;
}

function togglePanel() {
  chat.state.panel = !chat.state.panel;
  draw();
  if (chat.state.panel) prepare(draw);
}

function windowMeter() {
  const stats = chat.lastAnswer()?.stats;
  if (!stats?.window) return nothing;
  const used = stats.prompt + stats.tokens;
  const text = `${count(used)} of ${count(stats.window)} tokens of the window`;
  return html`<span class="window" title=${text}>
    <meter min="0" max=${stats.window} high=${stats.window * 0.8} value=${used} aria-label="Window used">${text}</meter>
    <span>${count(used)} / ${count(stats.window)}</span>
  </span>`;
}

function messages() {
  const path = chat.shown();
  return html`<div class="messages" tabindex="0" role="log" aria-live="off" aria-label="Messages" @scroll=${scrolled}>
    <div class="column">
      ${chat.state.error ? html`<p class="error" role="alert">${chat.state.error}</p>` : nothing}
      ${path.length ? nothing : welcome()}
      ${repeat(path, (message) => message.id, (message) => messageView(message, draw))}
    </div>
    ${watch()}
  </div>`;
}

/** Have the column watched once it is there: it grows while text streams, and when texts are drawn late. */
function watch() {
  queueMicrotask(() => {
    const column = root?.querySelector(".column");
    if (column) grown.observe(column);
  });
  return nothing;
}

function welcome() {
  const { models } = chat.state;
  if (models === null) return nothing;
  if (models.length === 0) {
    return html`<p class="empty">No model is here yet. <a href="#/models">Get one</a>: the smallest takes 93 MB.</p>`;
  }
  const model = chat.modelOf();
  const { family, parameter_size: parameters, quantization_level: quantization, context_length: length } = model?.details ?? {};
  const senses = ["vision", "audio", "thinking", "tools"].filter((each) => chat.can(each));
  const facts = [family, parameters, quantization, model && bytes(model.size), length && `window ${count(length)}`, ...senses];
  return html`<div class="welcome">
    <p class="big">Say something to ${chat.state.current.model}.</p>
    <p class="hint">${facts.filter(Boolean).join(" · ")}</p>
    <p class="ideas">${IDEAS.map((idea) => html`<button type="button" @click=${() => suggest(idea)}>${idea}</button>`)}</p>
  </div>`;
}

const IDEAS = [
  "Explain what a context window is, in two sentences.",
  "Write a Python function that finds the primes below n.",
  "Make a table of five trees and how tall they grow.",
];
