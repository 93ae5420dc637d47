// One message: its text, thinking, calls, warnings and figures, and what can be done with it.

import { codeBlock } from "../lib/code.js";
import { copy } from "../lib/copy.js";
import * as show from "../lib/format.js";
import { html, nothing } from "../lib/html.js";
import * as chat from "./state.js";
import { beside, siblings } from "./tree.js";

const NAMES = { user: "You", assistant: "Model", tool: "Result of a tool", system: "System" };

/** The article of a message. */
export function messageView(message, draw) {
  const live = chat.running();
  const isRunning = live?.message === message;
  const name = message.role === "assistant" ? message.model || NAMES.assistant : NAMES[message.role];
  return html`<article class="message ${message.role}" data-id=${message.id} aria-busy=${isRunning ? "true" : "false"}>
    <h2 class="who">${name}${message.role === "tool" ? html` <code>${message.tool_name}</code>` : nothing}</h2>
    ${chat.state.editing === message.id ? editor(message, draw) : bodyView(message, isRunning ? live : null)}
    ${chat.state.editing === message.id ? nothing : actions(message, draw)}
  </article>`;
}

function bodyView(message, live) {
  return html`${pictures(message)} ${thinking(message, live)}
    ${message.role === "assistant" ? answerText(message, live) : html`<div class="said">${message.content}</div>`}
    ${live && !message.content ? html`<p class="progress">${stage(live)}</p>` : nothing} ${calls(message)}
    ${message.error ? html`<p class="error" role="alert">${message.error}</p>` : nothing}
    ${message.state === "stopped" ? html`<p class="note">Stopped.</p>` : nothing}
    ${message.reason === "length" ? html`<p class="note">Cut: the answer reached its limit (num_predict) or the window's end.</p>` : nothing}
    ${warnings(message)} ${figures(message, live)}`;
}

function answerText(message, live) {
  const json = live ? null : structured(message);
  if (json) return html`<div class="structured">${json}</div>`;
  return html`<corral-text .text=${message.content} .live=${Boolean(live)}></corral-text>`;
}

const drawnJson = new WeakMap();

/** The block that shows an answer which is JSON as a whole; null when it is none. Made once a message. */
function structured(message) {
  const text = message.content.trim();
  if (!/^[[{]/.test(text)) return null;
  const known = drawnJson.get(message);
  if (known?.text === text) return known.node;
  let node = null;
  try {
    node = codeBlock(JSON.stringify(JSON.parse(text), null, 2), "json");
  } catch {
    // a text that begins like JSON
  }
  drawnJson.set(message, { text, node });
  return node;
}

function pictures(message) {
  const attached = [...(message.images ?? []), ...(message.files ?? [])];
  if (!attached.length) return nothing;
  return html`<ul class="pictures" aria-label="Attached">${attached.map((each) => html`<li>${thumbnail(each)}</li>`)}</ul>`;
}

/** A picture as it was attached, or the name of a sound or a text. */
export function thumbnail(image) {
  if (image.text !== undefined) return html`<span class="chip">▤ ${image.name}</span>`;
  if (!image.type.startsWith("image/")) return html`<span class="chip">♪ ${image.name}</span>`;
  return html`<img src="data:${image.type};base64,${image.data}" alt=${image.name} loading="lazy">`;
}

function thinking(message, live) {
  if (!message.thinking) return nothing;
  const isThinking = live && !message.content;
  const took = message.thought_ms ? ` for ${show.seconds(message.thought_ms / 1000)}` : "";
  return html`<details class="thinking">
    <summary>${isThinking ? "Thinking …" : `Thought${took}`}</summary>
    <corral-text .text=${message.thinking} .live=${Boolean(isThinking)}></corral-text>
  </details>`;
}

function stage(live) {
  const { progress } = live;
  if (!progress) return live.firstAt ? "…" : "Waiting for the server …";
  if (progress.stage === "queued") return `In the queue: place ${progress.position}, about ${show.seconds(progress.wait_seconds)}`;
  if (progress.stage === "loading") return "Loading the model …";
  if (progress.stage === "translating") {
    return `Preparing the model's file: ${show.percent(progress.processed / progress.total)}, once only`;
  }
  const cached = progress.cached ? `, ${show.count(progress.cached)} from the cache` : "";
  return `Reading: ${show.count(progress.processed)} of ${show.count(progress.total)} tokens${cached}`;
}

function calls(message) {
  if (!message.tool_calls?.length) return nothing;
  const open = message.state === "done" ? chat.openCalls(message)[0] : null;
  return html`<ul class="calls" aria-label="Tool calls">
    ${message.tool_calls.map(
      (call) => html`<li>
        <p>Calls <code>${call.function.name}</code></p>
        <pre class="arguments" tabindex="0" role="group" aria-label="Arguments">${JSON.stringify(call.function.arguments, null, 2)}</pre>
        ${call === open ? resultForm(message, call) : nothing}
      </li>`,
    )}
  </ul>`;
}

function resultForm(message, call) {
  const submit = (event) => {
    event.preventDefault();
    chat.giveResult(message, call, new FormData(event.target).get("result"));
  };
  return html`<form class="result" @submit=${submit}>
    <label>What it returned <textarea name="result" rows="2" required></textarea></label>
    <button class="primary">Give the result</button>
  </form>`;
}

function warnings(message) {
  if (!message.warnings?.length) return nothing;
  return html`<ul class="warnings" aria-label="Warnings">
    ${message.warnings.map((warning) => html`<li><span aria-hidden="true">⚠</span> ${warning.message} <code>${warning.code}</code></li>`)}
  </ul>`;
}

function figures(message, live) {
  if (live) {
    return html`<p class="figures">${Number.isFinite(live.speed) ? `${show.rate(live.speed)} tokens/s` : nothing}</p>`;
  }
  const { stats } = message;
  if (!stats) return nothing;
  const read = stats.prompt - stats.cached;
  const facts = [
    stats.seconds > 0 ? `${show.rate(stats.tokens / stats.seconds)} tokens/s` : "",
    `${show.count(stats.tokens)} tokens`,
    `prompt ${show.count(stats.prompt)}${stats.promptSeconds > 0 && read > 0 ? ` at ${show.rate(read / stats.promptSeconds)}/s` : ""}`,
    stats.prompt ? `${show.percent(stats.cached / stats.prompt)} from the cache` : "",
    stats.loadSeconds > 0.5 ? `loaded in ${show.seconds(stats.loadSeconds)}` : "",
  ];
  return html`<p class="figures">${facts.filter(Boolean).join(" · ")}</p>`;
}

function actions(message, draw) {
  const busy = Boolean(chat.running());
  const all = siblings(chat.state.messages, message.id);
  const place = all.findIndex((each) => each.id === message.id) + 1;
  const step = (by) => () => chat.show(beside(chat.state.messages, message.id, by));
  return html`<div class="actions">
    ${all.length > 1
      ? html`<span class="branches" role="group" aria-label="Branches">
          <button type="button" class="plain" aria-label="Earlier branch" ?disabled=${busy || place === 1} @click=${step(-1)}>‹</button>
          <span>${place} of ${all.length}</span>
          <button type="button" class="plain" aria-label="Later branch" ?disabled=${busy || place === all.length} @click=${step(1)}>›</button>
        </span>`
      : nothing}
    <button type="button" class="plain" @click=${(event) => copy(message.content, event.currentTarget)}>Copy</button>
    ${message.role === "assistant"
      ? html`<button type="button" class="plain" ?disabled=${busy} @click=${() => chat.again(message.id)}>Answer again</button>
          <button type="button" class="plain" ?disabled=${busy} @click=${() => edit(message, draw)}>Change</button>`
      : html`<button type="button" class="plain" ?disabled=${busy} @click=${() => edit(message, draw)}>Edit</button>`}
  </div>`;
}

function edit(message, draw) {
  chat.state.editing = message.id;
  draw();
  requestAnimationFrame(() => document.querySelector(".message form.edit textarea")?.focus());
}

function editor(message, draw) {
  const leave = () => {
    chat.state.editing = "";
    draw();
  };
  const submit = (event) => {
    event.preventDefault();
    chat.sayInstead(message.id, new FormData(event.target).get("content"));
  };
  return html`<form class="edit" @submit=${submit} @keydown=${(event) => event.key === "Escape" && leave()}>
    <label class="unseen" for="edit">${message.role === "assistant" ? "The answer" : "Your message"}</label>
    <textarea id="edit" name="content" rows="4" .value=${message.content}></textarea>
    <p class="buttons"><button type="button" @click=${leave}>Cancel</button><button class="primary">${message.role === "assistant" ? "Keep" : "Send"} as a branch</button></p>
  </form>`;
}
