// Conversations as files: one as Markdown for people, all of them as JSON, which can be loaded here or elsewhere.

import * as keep from "./keep.js";
import { branch } from "./tree.js";

const FORM = "corral-chats-1";
const ROLES = ["user", "assistant", "tool"];

/** The shown branch of a conversation, as Markdown. */
export async function saveOne(conversation) {
  const path = branch(await keep.messagesOf(conversation.id), conversation.leaf);
  download(`${fileName(conversation.title)}.md`, toMarkdown(conversation, path), "text/markdown");
}

/** All conversations with all their branches, as JSON. */
export async function saveAll() {
  const conversations = await keep.conversations();
  const each = await Promise.all(conversations.map(async ({ id }) => Object.values(await keep.messagesOf(id))));
  download("chats.json", JSON.stringify({ form: FORM, conversations, messages: each.flat() }), "application/json");
}

export function toMarkdown({ title, system }, path) {
  const names = { user: "You", tool: "Result of a tool" };
  const parts = path.map((message) => {
    const name = names[message.role] ?? message.model ?? "Model";
    const calls = (message.tool_calls ?? []).map((call) => `\`${call.function.name}(${JSON.stringify(call.function.arguments)})\``);
    const files = (message.files ?? []).map((file) => `*${file.name}*`);
    return [`## ${name}`, ...files, message.content, ...calls].filter(Boolean).join("\n\n");
  });
  return `${[`# ${title}`, system ? `> ${system.replaceAll("\n", "\n> ")}` : "", ...parts].filter(Boolean).join("\n\n")}\n`;
}

/**
 * Keep what `saveAll` wrote; the number of conversations that were not here. Raises Error for a file that is something else.
 * Those that are here stay as they are.
 */
export async function load(text) {
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    throw new Error("this is no JSON");
  }
  if (found?.form !== FORM || !Array.isArray(found.conversations) || !Array.isArray(found.messages)) {
    throw new Error("this is no file of saved chats");
  }
  const here = new Set((await keep.conversations()).map((each) => each.id));
  const fresh = found.conversations.filter((each) => isConversation(each) && !here.has(each.id));
  const ids = new Set(fresh.map((each) => each.id));
  for (const message of found.messages) {
    if (isMessage(message) && ids.has(message.conversation)) await keep.putMessage(message);
  }
  for (const conversation of fresh) await keep.putConversation(conversation);
  return fresh.length;
}

function isText(value) {
  return typeof value === "string";
}

function isConversation(value) {
  const texts = ["id", "title", "model"].every((key) => isText(value?.[key]));
  const maybe = ["leaf", "system", "think", "format", "tools"].every((key) => isText(value?.[key] ?? ""));
  return texts && maybe && Number.isFinite(value.updated) && [value.format, value.tools].every(isJsonOrNothing);
}

function isJsonOrNothing(text) {
  if (!text || text === "json") return true;
  try {
    return Boolean(JSON.parse(text));
  } catch {
    return false;
  }
}

const PARTS = { images: ["name", "type", "data"], files: ["name", "text"], warnings: ["code", "message"] };

function isMessage(value) {
  const texts = ["id", "conversation", "content", "state"].every((key) => isText(value?.[key]));
  if (!texts || !ROLES.includes(value.role) || !isText(value.parent ?? "")) return false;
  const lists = Object.entries(PARTS).every(([key, names]) => listOf(value[key], (part) => names.every((name) => isText(part?.[name]))));
  return lists && listOf(value.tool_calls, (call) => isText(call?.function?.name));
}

function listOf(value, isOne) {
  return value === undefined || (Array.isArray(value) && value.every(isOne));
}

function fileName(title) {
  return title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60) || "chat";
}

function download(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
