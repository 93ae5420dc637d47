// To the clipboard, also where a page served over plain HTTP may not use the new way.

import { announce } from "./announce.js";

const SHOWN_MS = 1500;

/** Copy, and say so; on the button, too. */
export async function copy(text, button = null) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "unseen";
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  announce("Copied");
  if (!button || button.dataset.says) return;
  button.dataset.says = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => {
    button.textContent = button.dataset.says;
    delete button.dataset.says;
  }, SHOWN_MS);
}
