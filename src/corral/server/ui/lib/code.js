// Code blocks and tables of an answer: a language, a copy button, colours when they are seen, scrolling by keyboard.

import { copy } from "./copy.js";
import { sanitized } from "./sanitize.js";

const MOST_COLOURED = 40_000; // characters; longer code stays in one colour
let highlighter = null; // the library's promise, once code has been seen

/** Finish the elements of a block before they are shown. */
export function decorate(fragment) {
  for (const code of fragment.querySelectorAll("pre > code")) dress(code);
  for (const table of fragment.querySelectorAll("table")) {
    const frame = scroller("div", "Table");
    table.replaceWith(frame);
    frame.append(table);
  }
}

/** A code block of this text, as an answer has them. */
export function codeBlock(text, language = "") {
  const pre = document.createElement("pre");
  const code = document.createElement("code");
  code.textContent = text;
  if (language) code.className = `language-${language}`;
  pre.append(code);
  const holder = document.createDocumentFragment();
  holder.append(pre);
  dress(code);
  return holder.firstElementChild;
}

function dress(code) {
  const language = /language-([\w+#.-]+)/.exec(code.className)?.[1] ?? "";
  const pre = code.parentElement;
  const frame = document.createElement("div");
  frame.className = "code";
  const head = document.createElement("div");
  const label = document.createElement("span");
  label.textContent = language || "text";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "plain";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy the code${language ? ` (${language})` : ""}`);
  button.addEventListener("click", () => copy(code.textContent, button));
  head.append(label, button);
  const box = scroller("div", `Code${language ? `: ${language}` : ""}`);
  pre.replaceWith(frame);
  box.append(pre);
  frame.append(head, box);
  if (language && code.textContent.length <= MOST_COLOURED) seen.observe(code);
}

function scroller(tag, label) {
  const box = document.createElement(tag);
  box.className = "scroll";
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", label);
  return box;
}

const seen = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!target.isConnected || isIntersecting) seen.unobserve(target);
      if (!isIntersecting) continue;
      requestIdleCallback(() => colour(target), { timeout: 1000 });
    }
  },
  { rootMargin: "400px" },
);

async function colour(code) {
  highlighter ??= import("../vendor/cdn-assets/es/highlight.min.js");
  const { default: hljs } = await highlighter;
  const language = /language-([\w+#.-]+)/.exec(code.className)?.[1];
  if (!code.isConnected || !hljs.getLanguage(language)) return;
  const { value } = hljs.highlight(code.textContent, { language, ignoreIllegals: true });
  code.replaceChildren(sanitized(value));
}
