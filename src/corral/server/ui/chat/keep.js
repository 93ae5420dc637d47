// Conversations in this browser: IndexedDB, a record a message, so that a word more does not write a whole chat anew.
// Where the browser keeps nothing (private windows), they last as long as the page.

import { openDB } from "../vendor/idb/build/index.js";

const NAME = "corral";
let database = null;
const memory = { conversations: new Map(), messages: new Map() };

async function open() {
  database ??= openDB(NAME, 1, {
    upgrade(db) {
      db.createObjectStore("conversations", { keyPath: "id" });
      db.createObjectStore("messages", { keyPath: "id" }).createIndex("conversation", "conversation");
    },
  }).catch(() => null);
  return database;
}

/** Whether conversations outlive the page. */
export async function isKept() {
  return (await open()) !== null;
}

/** All conversations, the newest first. */
export async function conversations() {
  const db = await open();
  const all = db ? await db.getAll("conversations") : [...memory.conversations.values()];
  return all.sort((a, b) => b.updated - a.updated);
}

/** {id: message} of a conversation. */
export async function messagesOf(conversation) {
  const db = await open();
  const all = db
    ? await db.getAllFromIndex("messages", "conversation", conversation)
    : [...memory.messages.values()].filter((message) => message.conversation === conversation);
  return Object.fromEntries(all.map((message) => [message.id, message]));
}

/** The ids of the conversations whose title or messages hold a text, which is in small letters. */
export async function holding(text) {
  const has = (value) => value?.toLowerCase().includes(text);
  const db = await open();
  const messages = db ? await db.getAll("messages") : [...memory.messages.values()];
  const titled = (await conversations()).filter((each) => has(each.title)).map((each) => each.id);
  return new Set([...titled, ...messages.filter((each) => has(each.content)).map((each) => each.conversation)]);
}

export async function putConversation(conversation) {
  await put("conversations", conversation);
}

export async function putMessage(message) {
  await put("messages", message);
}

async function put(store, value) {
  const plain = structuredClone(value);
  const db = await open();
  if (db) await db.put(store, plain);
  else memory[store].set(plain.id, plain);
}

/** A conversation with all its branches. */
export async function remove(conversation) {
  const ids = Object.keys(await messagesOf(conversation));
  const db = await open();
  if (!db) {
    memory.conversations.delete(conversation);
    for (const id of ids) memory.messages.delete(id);
    return;
  }
  const change = db.transaction(["conversations", "messages"], "readwrite");
  await Promise.all([
    change.objectStore("conversations").delete(conversation),
    ...ids.map((id) => change.objectStore("messages").delete(id)),
    change.done,
  ]);
}

/** A name for a new record: unique, and no secret. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Date.now().toString(36) + [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
