// The field for the next message: Enter sends, files come by drop, paste or button, Escape stops the answer.

import { announce } from "../lib/announce.js";
import { bytes } from "../lib/format.js";
import { html, nothing } from "../lib/html.js";
import { thumbnail } from "./message.js";
import * as chat from "./state.js";

const MOST_BYTES = 30_000_000; // of one file: the server takes bodies of 256 MB, and a chat sends all its pictures each time
const MOST_TEXT_BYTES = 1_000_000; // more than the largest windows hold

/** The form at the bottom of the room. */
export function composer(draw) {
  const { images } = chat.state;
  const isBusy = Boolean(chat.running());
  return html`<form class="composer" @submit=${(event) => submit(event, draw)} @dragover=${over} @drop=${(event) => dropped(event, draw)}>
    ${images.length
      ? html`<ul class="pictures" aria-label="To be sent">
          ${images.map(
            (image) => html`<li>
              ${thumbnail(image)}
              <button type="button" class="plain" aria-label="Take out ${image.name}" @click=${() => takeOut(image, draw)}>✕</button>
            </li>`,
          )}
        </ul>`
      : nothing}
    ${images.length && !takes(images) ? html`<p class="note">${misfit()}</p>` : nothing}
    ${chat.state.refused ? html`<p class="note" role="alert">${chat.state.refused}</p>` : nothing}
    <div class="row">
      <label class="unseen" for="say">Message</label>
      <textarea
        id="say"
        rows="1"
        placeholder="Message"
        autocomplete="off"
        @keydown=${(event) => pressed(event, draw)}
        @input=${(event) => grow(event.target)}
        @paste=${(event) => pasted(event, draw)}
      ></textarea>
      <label class="button attach" title="Attach pictures, sounds or texts">
        <span aria-hidden="true">+</span><span class="unseen">Attach pictures, sounds or texts</span>
        <input type="file" class="unseen" multiple @change=${(event) => picked(event, draw)}>
      </label>
      ${isBusy
        ? html`<button type="button" class="primary stop" @click=${() => chat.running()?.stop()}>Stop</button>`
        : html`<button class="primary send" ?disabled=${!chat.state.current?.model}>Send</button>`}
    </div>
  </form>`;
}

function field() {
  return document.getElementById("say");
}

function grow(area) {
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, innerHeight / 3)}px`;
}

function pressed(event, draw) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  submit(event, draw);
}

function submit(event, draw) {
  event.preventDefault();
  const text = field().value.trim();
  const { images } = chat.state;
  if (chat.running() || !chat.state.current?.model || (!text && !images.length)) return;
  field().value = "";
  grow(field());
  chat.state.images = [];
  chat.state.refused = "";
  chat.say(text, images);
  draw();
}

/** Begin a message with these words. */
export function suggest(text) {
  field().value = text;
  grow(field());
  field().focus();
}

// ---- files

function takes(images) {
  return images.every(({ type }) => type.startsWith("text/") || chat.can(type.startsWith("audio/") ? "audio" : "vision"));
}

function misfit() {
  return `${chat.state.current?.model || "The model"} does not say that it sees or hears; the server may refuse this.`;
}

function takeOut(image, draw) {
  chat.state.images = chat.state.images.filter((each) => each !== image);
  announce(`${image.name} taken out`);
  field().focus();
  draw();
}

function over(event) {
  if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
}

function dropped(event, draw) {
  if (!event.dataTransfer?.files.length) return;
  event.preventDefault();
  attach([...event.dataTransfer.files], draw); // the list is emptied when the event has passed
}

function pasted(event, draw) {
  const files = [...(event.clipboardData?.files ?? [])];
  if (!files.length) return;
  event.preventDefault();
  attach(files, draw);
}

function picked(event, draw) {
  attach([...event.target.files], draw);
  event.target.value = ""; // the same file again is a change, too; this empties the list
  field().focus();
}

async function attach(files, draw) {
  const refused = [];
  for (const file of files) {
    try {
      const image = await read(file);
      chat.state.images = [...chat.state.images, image];
      announce(`${image.name} attached`);
    } catch (error) {
      refused.push(error.message);
    }
  }
  chat.state.refused = refused.join(" ");
  draw();
}

/** A picture or a sound with its `data`, anything else that is UTF-8 with its `text`. Raises for what is neither. */
async function read(file) {
  const isText = !/^(image|audio)\//.test(file.type);
  const most = isText ? MOST_TEXT_BYTES : MOST_BYTES;
  if (file.size > most) throw new Error(`${file.name} has ${bytes(file.size)}; ${bytes(most)} are the most.`);
  if (!isText) return { name: file.name || "picture", type: file.type, data: await base64(file) };
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    if (!text.includes("\0")) return { name: file.name, type: "text/plain", text };
  } catch {
    // other bytes than a text's
  }
  throw new Error(`${file.name} is no picture, no sound and no text.`);
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
