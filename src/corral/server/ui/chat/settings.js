// What a conversation is answered with: system prompt, thinking, form of the answer, tools, and the options with their
// meanings and defaults, as the server tells them.

import { call } from "../lib/api.js";
import { html, nothing } from "../lib/html.js";
import * as chat from "./state.js";

const USUAL = ["temperature", "top_p", "top_k", "min_p", "repeat_penalty", "num_predict", "num_ctx", "seed", "stop"];
let ofModel = { name: "", parameters: {}, system: "" };

/** Ask once what options there are, and for each model what its author has set. */
export async function prepare(draw) {
  if (!chat.state.options.length) {
    const { options } = await call("GET", "api/options").catch(() => ({ options: [] }));
    chat.state.options = options;
  }
  const name = chat.state.current?.model;
  if (name && ofModel.name !== name) {
    const shown = await call("POST", "api/show", { model: name }).catch(() => ({}));
    ofModel = { name, parameters: parametersOf(shown.parameters ?? ""), system: shown.system ?? "" };
  }
  draw();
}

/** "temperature    0.7\n…" -> {temperature: "0.7"} */
function parametersOf(text) {
  const found = {};
  for (const line of text.split("\n")) {
    const [, name, value] = /^(\S+)\s+(.*)$/.exec(line) ?? [];
    if (name) found[name] = found[name] ? `${found[name]}, ${value}` : value;
  }
  return found;
}

/** The panel beside the conversation. */
export function settings(draw) {
  const { current, options } = chat.state;
  const set = (fields) => {
    Object.assign(current, fields);
    chat.save();
  };
  const rest = options.filter((option) => !USUAL.includes(option.name));
  const usual = USUAL.map((name) => options.find((option) => option.name === name)).filter(Boolean);
  return html`<aside class="settings" aria-label="Settings of this chat">
    <h2>Settings <button type="button" class="plain" @click=${() => close(draw)}>Close</button></h2>
    <label>System prompt
      <textarea rows="4" .value=${current.system ?? ""} placeholder=${ofModel.system || "None"}
        @input=${(event) => set({ system: event.target.value })}></textarea></label>
    ${chat.can("thinking") ? thinking(current, set) : nothing} ${form(current, set)} ${tools(current, set)}
    <h3>Options</h3>
    <p class="hint">Empty: the model's or the server's own value, shown in grey.</p>
    ${usual.map((option) => optionField(option, current, set))}
    <details><summary>More options</summary>${rest.map((option) => optionField(option, current, set))}</details>
  </aside>`;
}

function close(draw) {
  chat.state.panel = false;
  draw();
  document.getElementById("settings")?.focus();
}

function thinking(current, set) {
  const choices = [["", "As the model does"], ["on", "On"], ["off", "Off"], ["low", "Low"], ["medium", "Medium"], ["high", "High"]];
  return html`<label>Thinking
    <select @change=${(event) => set({ think: event.target.value })}>
      ${choices.map(([value, name]) => html`<option value=${value} ?selected=${(current.think ?? "") === value}>${name}</option>`)}
    </select></label>`;
}

function form(current, set) {
  const kind = !current.format ? "" : current.format === "json" ? "json" : "schema";
  const choose = (event) => set({ format: { "": "", json: "json", schema: '{\n  "type": "object"\n}' }[event.target.value] });
  return html`<label>Form of the answer
      <select @change=${choose}>
        <option value="" ?selected=${kind === ""}>Free</option>
        <option value="json" ?selected=${kind === "json"}>JSON</option>
        <option value="schema" ?selected=${kind === "schema"}>JSON by a schema</option>
      </select></label>
    ${kind === "schema" ? jsonField("JSON schema", current.format, (text) => set({ format: text })) : nothing}`;
}

function tools(current, set) {
  return html`<details ?open=${Boolean(current.tools)}>
    <summary>Tools</summary>
    ${chat.can("tools") ? nothing : html`<p class="hint">This model was not made for tools.</p>`}
    ${jsonField("Tools, a JSON list as the API takes them", current.tools ?? "", (text) => set({ tools: text }))}
    <p class="hint">A call is shown in the chat, and asks you for what it returned.</p>
  </details>`;
}

function jsonField(label, value, take) {
  const check = (event) => {
    const area = event.target;
    area.setCustomValidity(area.value.trim() ? wrongJson(area.value) : "");
    if (area.reportValidity()) take(area.value.trim());
  };
  return html`<label>${label}<textarea class="code" rows="5" spellcheck="false" .value=${value} @change=${check}></textarea></label>`;
}

function wrongJson(text) {
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return error.message;
  }
}

function optionField(option, current, set) {
  const id = `option-${option.name}`;
  const value = current.options?.[option.name];
  const author = ofModel.parameters[option.name];
  const unset = author ?? (option.default === undefined ? "automatic" : String(option.default));
  const change = (event) => {
    if (!event.target.reportValidity()) return;
    const options = { ...current.options };
    const text = event.target.value.trim();
    if (text === "") delete options[option.name];
    else options[option.name] = typed(option, text);
    set({ options });
  };
  return html`<div class="option">
    <label for=${id}>${option.name}</label>
    ${input(option, id, value, unset, change)}
    <p class="hint" id="${id}-hint">${option.meaning}${author === undefined ? "" : " Set by the model's author."}</p>
  </div>`;
}

function input(option, id, value, unset, change) {
  const hint = `${id}-hint`;
  if (option.type === "bool" || option.name === "on_overflow") {
    const choices = option.type === "bool" ? ["true", "false"] : ["truncate", "error"];
    return html`<select id=${id} aria-describedby=${hint} @change=${change}>
      <option value="" ?selected=${value === undefined}>${unset}</option>
      ${choices.map((word) => html`<option value=${word} ?selected=${String(value) === word}>${word}</option>`)}
    </select>`;
  }
  const shown = Array.isArray(value) ? value.join(", ") : (value ?? "");
  const isNumber = option.type === "int" || option.type === "float";
  return html`<input id=${id} aria-describedby=${hint} type=${isNumber ? "number" : "text"} step=${option.type === "float" ? "any" : "1"}
    min=${isNumber && option.low !== undefined ? option.low : nothing} max=${isNumber && option.high !== undefined ? option.high : nothing}
    .value=${String(shown)} placeholder=${unset} @change=${change}>`;
}

function typed(option, text) {
  if (option.type === "bool") return text === "true";
  if (option.type === "array") return text.split(",").map((each) => each.trim()).filter(Boolean);
  return option.type === "string" ? text : Number(text);
}
