// What a model wrote, as elements: Markdown without HTML in it, through a sanitizer, and never run.
//
// <corral-text> draws its `text` block by block. While an answer streams (`live`), blocks that are finished stay as they
// are and only the last ones are read again, so that a long answer costs no more per word than a short one. Many texts
// at once, as when a conversation is opened, are drawn in slices of a frame, the newest first.

import MarkdownIt from "../vendor/markdown-it/dist/browser/markdown-it.esm.min.mjs";
import { decorate } from "./code.js";
import { sanitized } from "./sanitize.js";

const MOST_TOKENS = 8000; // of one block; more are shown as plain text: no table is worth a page that stands still
const SLICE_MS = 12;
const LEAST_PAUSE_MS = 40;

const markdown = new MarkdownIt({ html: false, linkify: true });
markdown.validateLink = (url) => /^(https?:\/\/|mailto:)/i.test(url.trim());
const escape = markdown.utils.escapeHtml;

// Pictures are not fetched: the address would tell somebody that, and what, was read. They are links with their text.
markdown.renderer.rules.image = (tokens, index) => {
  const token = tokens[index];
  const text = token.content || token.attrGet("src");
  return `<a href="${escape(token.attrGet("src"))}">${escape(`[picture: ${text}]`)}</a>`;
};
for (const name of ["th_open", "td_open"]) {
  markdown.renderer.rules[name] = (tokens, index) => {
    const side = /text-align:(\w+)/.exec(tokens[index].attrGet("style") ?? "")?.[1];
    return `<${tokens[index].tag}${side ? ` class="${side}"` : ""}>`;
  };
}

/** Headings of an answer stand below the page's own, without gaps, whatever level the model began with. */
function level(stack, asked) {
  while (stack.length && stack.at(-1) >= asked) stack.pop();
  stack.push(asked);
  return Math.min(2 + stack.length, 6);
}

/** The top-level blocks of a text: [{source, tokens, end}], `end` being the character behind the block. */
export function blocks(text, env = {}, stack = []) {
  const tokens = markdown.parse(text, env);
  const starts = [0];
  for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  const found = [];
  let first = 0;
  for (let index = 0; index < tokens.length; index += 1) {
    const token = tokens[index];
    if (token.type === "heading_open" || token.type === "heading_close") {
      if (token.type === "heading_open") token.meta = level(stack, Number(token.tag[1]));
      token.tag = `h${token.meta ?? tokens[index - 2].meta}`;
    }
    if (token.level === 0 && token.nesting <= 0) {
      const [from, to] = tokens[first].map ?? [0, 0];
      const end = starts[to] ?? text.length;
      found.push({ source: text.slice(starts[from], end), tokens: tokens.slice(first, index + 1), end, stack: [...stack] });
      first = index + 1;
    }
  }
  return found;
}

function elementsOf(block, env) {
  const weight = block.tokens.reduce((sum, token) => sum + 1 + (token.children?.length ?? 0), 0);
  if (weight > MOST_TOKENS) {
    const plain = document.createElement("pre");
    plain.className = "large";
    plain.textContent = block.source;
    return [plain];
  }
  const fragment = sanitized(markdown.renderer.render(block.tokens, markdown.options, env));
  decorate(fragment);
  return [...fragment.childNodes];
}

class CorralText extends HTMLElement {
  #text = "";
  #live = false;
  #drawn = []; // [{source, nodes}]
  #settled = null; // {count, offset, stack, env}: blocks that are not read again
  #timer = 0;
  #cost = 0;

  set text(value) {
    if (value === this.#text) return;
    if (this.#settled && !value.startsWith(this.#text.slice(0, this.#settled.offset))) this.#settled = null;
    this.#text = value;
    this.#schedule();
  }

  get text() {
    return this.#text;
  }

  set live(value) {
    if (Boolean(value) === this.#live) return;
    this.#live = Boolean(value);
    this.#settled = null;
    this.#schedule();
  }

  connectedCallback() {
    this.#schedule();
  }

  #schedule() {
    if (!this.#live) {
      clearTimeout(this.#timer);
      this.#timer = 0;
      enqueue(this);
    } else if (!this.#timer) {
      const pause = Math.max(LEAST_PAUSE_MS, 4 * this.#cost);
      this.#timer = setTimeout(() => {
        this.#timer = 0;
        this.draw();
      }, pause);
    }
  }

  /** Bring the elements in line with the text. */
  draw() {
    if (!this.isConnected) return;
    const began = performance.now();
    const settled = this.#settled ?? { count: 0, offset: 0, stack: [], env: {} };
    const found = blocks(this.#text.slice(settled.offset), settled.env, [...settled.stack]);
    this.#keep(settled, found);
    if (this.#live && found.length > 2) {
      const last = found.at(-3);
      this.#settled = {
        count: settled.count + found.length - 2,
        offset: settled.offset + last.end,
        stack: last.stack,
        env: settled.env,
      };
    }
    this.#cost = performance.now() - began;
    this.dispatchEvent(new CustomEvent("drawn", { bubbles: true }));
  }

  #keep(settled, found) {
    const drawn = this.#drawn;
    const references = Object.entries(settled.env.references ?? {}).map(([name, { href }]) => `${name} ${href}`);
    found.forEach((block, index) => {
      const place = settled.count + index;
      // a link may be explained further down, so that a block changes with what comes behind it
      const key = [block.source, block.stack, ...references].join("\u0000");
      if (drawn[place]?.key === key) return;
      const nodes = elementsOf(block, settled.env);
      const before = drawn.slice(place).flatMap((entry) => entry.nodes)[0] ?? null;
      for (const node of nodes) this.insertBefore(node, before);
      for (const node of drawn[place]?.nodes ?? []) node.remove();
      drawn[place] = { key, nodes };
    });
    for (const entry of drawn.splice(settled.count + found.length)) for (const node of entry.nodes) node.remove();
  }
}

// ---- many texts at once

const waiting = new Set();
let isWorking = false;

function enqueue(element) {
  waiting.delete(element);
  waiting.add(element);
  if (isWorking) return;
  isWorking = true;
  queueMicrotask(work);
}

function work() {
  const until = performance.now() + SLICE_MS;
  while (waiting.size && performance.now() < until) {
    const newest = [...waiting].at(-1);
    waiting.delete(newest);
    newest.draw();
  }
  if (waiting.size) setTimeout(work);
  else isWorking = false;
}

customElements.define("corral-text", CorralText);
