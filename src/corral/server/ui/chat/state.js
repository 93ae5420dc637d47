// What the chat room works with: conversations, the open one's messages, the models, answers on their way.

import { call } from "../lib/api.js";
import { announce } from "../lib/announce.js";
import { Answer } from "./answer.js";
import * as keep from "./keep.js";
import { branch, titleOf } from "./tree.js";

export const state = {
  conversations: [],
  current: null,
  messages: {},
  models: null, // null = not asked yet
  options: [],
  error: "",
  kept: true,
  editing: "", // the message that is being edited
  panel: false,
  images: [], // attached to the message that is being written: {name, type, data or text}
  refused: "", // why a file was not attached
  found: null, // ids of the conversations that hold what is looked for; null = nothing is
};
const answers = new Map(); // conversation id -> Answer
let changed = () => {};

/** Who draws. */
export function onChange(draw) {
  changed = draw;
}

export function running(id = state.current?.id) {
  return answers.get(id);
}

export function shown() {
  return state.current ? branch(state.messages, state.current.leaf) : [];
}

/** The models' list; names, and what each can. */
export async function loadModels() {
  try {
    const { models } = await call("GET", "api/tags");
    state.models = models.filter((model) => !model.capabilities || model.capabilities.includes("completion"));
    state.error = "";
  } catch (error) {
    state.models ??= [];
    state.error = error.message;
  }
  const { current, models } = state;
  if (current && !current.model && models.length) current.model = preferred();
  changed();
}

function preferred() {
  const names = state.models.map((model) => model.name);
  const last = state.conversations.find((conversation) => names.includes(conversation.model))?.model;
  return last ?? names[0] ?? "";
}

export function modelOf(conversation = state.current) {
  return state.models?.find((model) => model.name === conversation?.model);
}

export function can(capability) {
  return modelOf()?.capabilities?.includes(capability) ?? false;
}

/** Open a conversation, or a new one that is kept once something is said in it. */
export async function open(id) {
  if (id && state.current?.id === id) return;
  state.kept = await keep.isKept();
  state.conversations = await keep.conversations();
  const found = state.conversations.find((conversation) => conversation.id === id);
  state.current = found ?? fresh();
  const live = answers.get(state.current.id);
  state.messages = live?.messages ?? (found ? await keep.messagesOf(id) : {});
  for (const message of Object.values(state.messages)) {
    if (message.state === "running" && !live) message.state = "stopped"; // the page was closed meanwhile
  }
  state.editing = "";
  state.images = [];
  state.refused = "";
  changed();
}

/** A new conversation with a model, which is kept once something is said in it. */
export async function openWith(model) {
  state.current = null;
  await open("");
  state.current.model = model;
  changed();
}

function fresh() {
  const model = state.models?.length ? preferred() : "";
  return { id: keep.newId(), title: "New chat", created: Date.now(), updated: 0, leaf: null, model, system: "", options: {} };
}

/** Keep a change of the open conversation's settings, if it is kept at all. */
export async function save() {
  const { current } = state;
  changed();
  if (current.updated) await keep.putConversation(current);
}

/** Look at what is kept anew. */
export async function reload() {
  state.conversations = await keep.conversations();
  changed();
}

export async function rename(id, title) {
  const conversation = state.conversations.find((each) => each.id === id);
  conversation.title = title;
  if (state.current?.id === id) state.current.title = title;
  await keep.putConversation(conversation);
  changed();
}

export async function forget(id) {
  answers.get(id)?.stop();
  await keep.remove(id);
  state.conversations = await keep.conversations();
  if (state.current?.id === id) state.current = null;
  changed();
}

async function add(fields) {
  const { current } = state;
  const message = { id: keep.newId(), conversation: current.id, created: Date.now(), content: "", state: "done", ...fields };
  state.messages[message.id] = message;
  current.leaf = message.id;
  if (!current.updated && fields.role === "user") current.title = titleOf(message.content || message.files?.[0]?.name || "Pictures");
  current.updated = Date.now();
  state.conversations = [current, ...state.conversations.filter((each) => each.id !== current.id)];
  await Promise.all([keep.putMessage(message), keep.putConversation(current)]);
  return message;
}

/** Say something at the end of the shown branch, and have it answered. */
export async function say(content, attached = []) {
  const images = attached.filter((each) => each.data !== undefined);
  const files = attached.filter((each) => each.text !== undefined);
  await add({ role: "user", content, images, files, parent: state.current.leaf });
  await answer();
}

/** The same turn in other words: a branch of its own. An answer's own words are not answered. */
export async function sayInstead(id, content) {
  const { parent, role, images, files, tool_name, tool_call_id, model, tool_calls } = state.messages[id];
  state.editing = "";
  await add({ role, content, images, files, tool_name, tool_call_id, model, tool_calls, parent });
  if (role === "assistant") changed();
  else await answer();
}

/** Show only the conversations that hold this text; all of them for none. */
export async function find(text) {
  const found = text.trim() ? await keep.holding(text.trim().toLowerCase()) : null;
  state.found = found;
  changed();
}

/** What came of a tool call; the model goes on once each of its calls has a result. */
export async function giveResult(message, call, content) {
  const fields = { role: "tool", content, tool_name: call.function.name, parent: state.current.leaf };
  if (call.id) fields.tool_call_id = call.id;
  await add(fields);
  if (openCalls(message).length === 0) await answer();
  else changed();
}

/** The calls of a message that nobody has answered on the shown branch, in order. */
export function openCalls(message) {
  const path = shown();
  const results = path.slice(path.indexOf(message) + 1).filter((each) => each.role === "tool");
  return (message.tool_calls ?? []).slice(results.length);
}

/** Another answer in the place of this one. */
export async function again(id = lastAnswer()?.id) {
  if (!id || running()) return;
  state.current.leaf = state.messages[id].parent;
  await answer();
}

export function lastAnswer() {
  return shown().findLast((message) => message.role === "assistant");
}

async function answer() {
  const { current } = state;
  const path = shown();
  const message = await add({ role: "assistant", parent: current.leaf, state: "running", model: current.model });
  const live = new Answer(current, path, message, {
    onChange: () => changed(),
    save: (each) => (state.conversations.some(({ id }) => id === current.id) ? keep.putMessage(each) : null),
  });
  live.messages = state.messages;
  answers.set(current.id, live);
  changed();
  announce("Answering");
  await live.run();
  answers.delete(current.id);
  changed();
  announce(spoken(message));
}

function spoken(message) {
  if (message.state === "failed") return `The answer failed: ${message.error}`;
  if (message.state === "stopped") return "Stopped";
  if (message.tool_calls?.length) return `The model wants to call ${message.tool_calls.map((each) => each.function.name).join(", ")}`;
  const text = message.content.replace(/[*_`#>|]/g, "");
  return `Answer: ${text.length > 600 ? `${text.slice(0, 600)} … and more` : text}`;
}

/** Show another branch: that of the sibling `leaf` belongs to. */
export async function show(leaf) {
  state.current.leaf = leaf;
  state.editing = "";
  await save();
}
