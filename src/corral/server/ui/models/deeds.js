// What can be done with a model that is here: looked at, copied, unloaded, deleted; and made from a Modelfile.

import { call } from "../lib/api.js";
import { announce } from "../lib/announce.js";
import { ask, confirm } from "../lib/dialogs.js";
import { bytes, count, day } from "../lib/format.js";
import { html, nothing } from "../lib/html.js";
import { begin } from "./transfers.js";

export async function details(name) {
  const model = await call("POST", "api/show", { model: name });
  const facts = [
    ["Architecture", model.details.family],
    ["Parameters", model.details.parameter_size],
    ["Quantization", model.details.quantization_level],
    ["Window", count(lengthOf(model.model_info))],
    ["Can", model.capabilities?.join(", ")],
    ["Changed", day(model.modified_at)],
    ["Tensors", count(model.tensors?.length)],
  ].filter(([, value]) => value);
  const texts = [
    ["Parameters set by the author", model.parameters],
    ["System prompt", model.system],
    ["Template", model.template],
    ["Modelfile", model.modelfile],
    ["License", model.license],
  ].filter(([, text]) => text);
  const body = html`<dl class="facts">${facts.map(([label, value]) => html`<dt>${label}</dt><dd>${value}</dd>`)}</dl>
    ${model.warnings?.map((warning) => html`<p class="error">${warning.message}</p>`) ?? nothing}
    ${texts.map(([label, text]) => html`<details><summary>${label}</summary>
      <pre class="text" tabindex="0" role="group" aria-label=${label}>${text}</pre></details>`)}`;
  await ask({ title: name, body, action: "Close", cancel: "" });
}

function lengthOf(info = {}) {
  return info[Object.keys(info).find((key) => key.endsWith(".context_length"))];
}

export async function copyModel(name) {
  const body = html`<label>New name <input name="destination" required autocomplete="off" spellcheck="false" autofocus></label>
    <p class="hint">A second name for the same files: it takes no room.</p>`;
  const values = await ask({ title: `Copy ${name}`, body, action: "Copy" });
  if (!values) return;
  await call("POST", "api/copy", { source: name, destination: values.destination.trim() });
  announce(`${values.destination} is a copy of ${name}`);
}

export async function unload(name) {
  await call("POST", "api/generate", { model: name, keep_alive: 0, stream: false });
  announce(`${name} is unloaded`);
}

export async function remove(model) {
  const frees = model.freed_by_delete;
  const body = html`<p>${frees ? `This frees ${bytes(frees)}.` : "This frees nothing: its files belong to another model too."}
    ${frees && frees < model.size * 0.99 ? " The rest belongs to other models, too." : nothing}</p>`;
  if (!(await confirm(`Delete ${model.name}?`, body, "Delete"))) return;
  await call("DELETE", "api/delete", { model: model.name });
  announce(`${model.name} is deleted`);
}

export async function create(models, refresh) {
  const from = models[0]?.name ?? "smollm2:135m";
  const start = `FROM ${from}\nPARAMETER temperature 0.7\nSYSTEM """You answer in one sentence."""\n`;
  const body = html`<label>Name <input name="name" required autocomplete="off" spellcheck="false" autofocus></label>
    <label>Modelfile <textarea name="modelfile" class="code" rows="10" spellcheck="false" required .value=${start}></textarea></label>
    <p class="hint">FROM names a model that is here, or one to be fetched. Files of your own: corral create in a terminal.</p>`;
  const values = await ask({ title: "Create a model", body, action: "Create" });
  if (!values) return;
  const name = values.name.trim();
  if (await begin("create", name, { model: name, modelfile: values.modelfile })) await refresh();
}
