// The frame around the rooms: which one is open, the theme, the key, the shortcuts. A room is fetched when it is opened.

import { call, key, onUnauthorized } from "./lib/api.js";
import { announce } from "./lib/announce.js";
import { ask } from "./lib/dialogs.js";
import { html } from "./lib/html.js";

const ROOMS = {
  chat: () => import("./chat/room.js"),
  models: () => import("./models/room.js"),
  now: () => import("./now/room.js"),
};
const THEMES = ["system", "light", "dark"];
const main = document.getElementById("main");
let open = null; // {name, module}
let visit = 0;

/** "#/chat/42" -> ["chat", "42"] */
function place() {
  const [, name = "chat", ...rest] = location.hash.split("/");
  return [Object.hasOwn(ROOMS, name) ? name : "chat", decodeURIComponent(rest.join("/"))];
}

async function go() {
  const [name, rest] = place();
  const mine = ++visit;
  for (const link of document.querySelectorAll("[data-room]")) {
    if (link.dataset.room === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (open?.name === name) {
    open.module.visit(rest);
    return;
  }
  const module = await ROOMS[name]().catch(() => null);
  if (mine !== visit) return;
  if (module === null) {
    document.getElementById("first")?.replaceChildren("The server did not send the whole page. Is it there? Then load this page again.");
    return;
  }
  const hadRoom = open !== null;
  open?.module.leave();
  const root = document.createElement("div");
  root.className = `room ${name}`;
  main.replaceChildren(root);
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · Corral`;
  open = { name, module };
  module.enter(root, rest);
  if (hadRoom) announce(`${document.title.split(" ")[0]} is open`);
}

// ---- theme

function theme() {
  return document.documentElement.dataset.theme ?? "system";
}

function nextTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("corral.theme", next);
  } catch {
    // for this visit only, then
  }
  showTheme();
  announce(`Colours: ${next}`);
}

function showTheme() {
  const button = document.getElementById("theme");
  button.textContent = { system: "◐", light: "☀", dark: "☾" }[theme()];
  button.setAttribute("aria-label", `Colours: ${theme() === "system" ? "as the system's" : theme()}`);
  window.dispatchEvent(new Event("corral-theme"));
}

// ---- key

let asking = null;

/** One question at a time, however many requests were refused; resolves to whether there is a key now. */
function askForKey(why = "This server wants an API key.") {
  asking ??= question(why).finally(() => {
    asking = null;
  });
  return asking;
}

async function question(why) {
  const body = html`<p>${why} It stays in this browser and goes to this server only.</p>
    <label>API key <input name="key" type="password" autocomplete="off" .value=${key.get()} autofocus></label>
    <label class="check"><input name="keep" type="checkbox" ?checked=${key.isKept}> Keep it when this tab is closed</label>`;
  const values = await ask({ title: "API key", body, action: "Use it" });
  if (values === null) return false;
  key.set(values.key.trim(), { keep: Boolean(values.keep) });
  return Boolean(values.key.trim());
}

// ---- shortcuts

const SHORTCUTS = [
  ["Alt+1, Alt+2, Alt+3", "Chat, Models, Now"],
  ["Alt+N", "A new chat"],
  ["Alt+↑, Alt+↓", "The chat above, below"],
  ["Enter", "Send the message"],
  ["Shift+Enter", "A new line in the message"],
  ["Esc", "Stop the answer; leave a question"],
  ["Alt+M", "To the message field"],
  ["Alt+R", "Answer again"],
  ["?", "This list"],
];

function showHelp() {
  const rows = SHORTCUTS.map(([keys, what]) => html`<dt><kbd>${keys}</kbd></dt><dd>${what}</dd>`);
  return ask({ title: "Keyboard", body: html`<dl class="keys">${rows}</dl>`, action: "Close", cancel: "" });
}

function isTyping(target) {
  return target instanceof Element && target.closest("input, textarea, select, [contenteditable]") !== null;
}

addEventListener("keydown", (event) => {
  if (event.isComposing || document.querySelector("dialog[open]")) return;
  const room = event.altKey && !event.ctrlKey && !event.metaKey ? { 1: "chat", 2: "models", 3: "now" }[event.key] : null;
  if (room) {
    event.preventDefault();
    location.hash = `#/${room}`;
    main.focus();
  } else if (event.key === "?" && !isTyping(event.target)) {
    event.preventDefault();
    showHelp();
  } else if (open?.module.pressed?.(event)) {
    event.preventDefault();
  }
});

document.getElementById("skip").addEventListener("click", () => main.focus());
document.getElementById("theme").addEventListener("click", nextTheme);
document.getElementById("help").addEventListener("click", showHelp);
document.getElementById("key").addEventListener("click", async () => {
  await askForKey(key.get() ? "A key is set." : "No key is set.");
  await call("GET", "api/version").catch(() => {});
  open?.module.visit(place()[1]);
});
onUnauthorized(askForKey);
addEventListener("hashchange", go);
showTheme();
go();
