// Questions in a <dialog>: it keeps the focus inside, closes on Escape and gives the focus back by itself.

import { html, nothing, render } from "./html.js";

/**
 * Show a form; resolves to the values of its named fields, or null when it was left.
 * `body`: a template; `action`: the word on the button; `isDangerous` colours it.
 */
export function ask({ title, body = nothing, action = "OK", isDangerous = false, cancel = "Cancel" }) {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "dialog-title");
  document.body.append(dialog);
  return new Promise((resolve) => {
    let values = null;
    const submit = (event) => {
      event.preventDefault();
      values = Object.fromEntries(new FormData(event.target));
      dialog.close();
    };
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(values);
    });
    render(
      html`<form method="dialog" @submit=${submit}>
        <h2 id="dialog-title">${title}</h2>
        ${body}
        <p class="buttons">
          ${cancel ? html`<button type="button" @click=${() => dialog.close()}>${cancel}</button>` : nothing}
          <button class=${isDangerous ? "danger" : "primary"}>${action}</button>
        </p>
      </form>`,
      dialog,
    );
    dialog.showModal();
    (dialog.querySelector("[autofocus], input, textarea, select") ?? dialog.querySelector("button.primary, button.danger"))?.focus();
  });
}

/** Whether the person says yes. */
export async function confirm(title, body, action, { isDangerous = true } = {}) {
  return (await ask({ title, body, action, isDangerous })) !== null;
}
