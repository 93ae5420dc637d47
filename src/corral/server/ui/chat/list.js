// The list of conversations: found, opened, renamed, saved, deleted; all of them to a file and back.

import { announce } from "../lib/announce.js";
import { ask, confirm } from "../lib/dialogs.js";
import { html, nothing, repeat } from "../lib/html.js";
import * as share from "./share.js";
import * as chat from "./state.js";

const FIND_AFTER_MS = 200;
let timer = 0;

export function isNarrow() {
  return matchMedia("(max-width: 50rem)").matches;
}

/** What stands on the left. `startNew` opens an empty conversation. */
export function list(startNew) {
  const { conversations, current, kept, found } = chat.state;
  const shown = found === null ? conversations : conversations.filter((each) => found.has(each.id));
  return html`<button type="button" class="new" @click=${startNew}>New chat</button>
    ${conversations.length ? html`<input type="search" aria-label="Find in chats" placeholder="Find" @input=${find}>` : nothing}
    <nav aria-label="Chats">
      <ul>${repeat(shown, (each) => each.id, (each) => entry(each, each.id === current?.id, startNew))}</ul>
    </nav>
    ${found !== null && !shown.length ? html`<p class="hint">Nothing found.</p>` : nothing}
    <p class="hint">${kept ? "Kept in this browser only." : "This browser keeps nothing: chats end with the page."}</p>
    <p class="files">
      ${conversations.length ? html`<button type="button" class="plain" @click=${share.saveAll}>Save all</button>` : nothing}
      <label class="button plain">Load saved<input type="file" class="unseen" accept=".json" @change=${load}></label>
    </p>`;
}

function entry(each, isOpen, startNew) {
  return html`<li>
    <a href="#/chat/${each.id}" aria-current=${isOpen ? "true" : nothing} title=${each.title}>${each.title}</a>
    <button type="button" class="plain" aria-label="Save ${each.title}" title="Save as Markdown" @click=${() => share.saveOne(each)}>⤓</button>
    <button type="button" class="plain" aria-label="Rename ${each.title}" title="Rename" @click=${() => rename(each)}>✎</button>
    <button type="button" class="plain" aria-label="Delete ${each.title}" title="Delete" @click=${() => forget(each, startNew)}>✕</button>
  </li>`;
}

function find(event) {
  const { value } = event.target;
  clearTimeout(timer);
  timer = setTimeout(async () => {
    await chat.find(value);
    if (chat.state.found) announce(`${chat.state.found.size} found`);
  }, FIND_AFTER_MS);
}

async function load(event) {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  try {
    const loaded = await share.load(await file.text());
    announce(`${loaded} loaded`);
    await chat.reload();
  } catch (error) {
    await ask({ title: "Not loaded", body: html`<p>${file.name}: ${error.message}</p>`, action: "Close", cancel: "" });
  }
}

async function rename(conversation) {
  const body = html`<label>Title <input name="title" .value=${conversation.title} required autofocus></label>`;
  const values = await ask({ title: "Rename the chat", body, action: "Rename" });
  if (values?.title.trim()) chat.rename(conversation.id, values.title.trim());
}

async function forget(conversation, startNew) {
  const isSure = await confirm("Delete the chat?", html`<p>“${conversation.title}”, with all its branches.</p>`, "Delete");
  if (!isSure) return;
  const wasOpen = chat.state.current?.id === conversation.id;
  await chat.forget(conversation.id);
  if (wasOpen) startNew();
}
