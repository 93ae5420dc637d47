// The server's public API, as any client uses it. The page is served by the server it talks to, wherever that is.

export const BASE = new URL("../../", import.meta.url); // this file is <base>ui/lib/api.js

const KEY = "corral.key";

/** The server's refusal, or 0 for a server that cannot be reached. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.name = "ApiError";
    this.status = status;
  }
}

/** The API key; in this browser only, for this tab or until it is taken out again. */
export const key = {
  get() {
    return read(sessionStorage) ?? read(localStorage) ?? "";
  },
  get isKept() {
    return Boolean(read(localStorage));
  },
  set(value, { keep = false } = {}) {
    for (const storage of [sessionStorage, localStorage]) storage.removeItem(KEY);
    if (value) (keep ? localStorage : sessionStorage).setItem(KEY, value);
  },
};

function read(storage) {
  try {
    return storage.getItem(KEY);
  } catch {
    return null;
  }
}

let askForKey = null;

/** What is done when the server wants a key: `ask()` resolves to whether there is a new one. */
export function onUnauthorized(ask) {
  askForKey = ask;
}

/** One request; the answer's JSON, or its text. Raises ApiError, and AbortError when `signal` aborts. */
export async function call(method, path, body, { signal } = {}) {
  const response = await send(method, path, body, signal);
  const text = await response.text();
  if (!(response.headers.get("content-type") ?? "").includes("json")) return text;
  return text ? JSON.parse(text) : null;
}

/** The objects of a streamed answer, one a line. Raises ApiError, also for an error that comes late. */
export async function* lines(path, body, { signal } = {}) {
  const response = await send("POST", path, { ...body, stream: true }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const part of parts) if (part.trim()) yield checked(part);
    }
    if (rest.trim()) yield checked(rest);
  } catch (error) {
    throw explained(error);
  } finally {
    reader.cancel().catch(() => {});
  }
}

function checked(line) {
  const value = JSON.parse(line);
  if (value.error) throw new ApiError(200, String(value.error));
  return value;
}

async function send(method, path, body, signal, isAgain = false) {
  const headers = {};
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const options = { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) };
  let response;
  try {
    response = await fetch(new URL(path, BASE), { ...options, credentials: "same-origin", cache: "no-store" });
  } catch (error) {
    throw explained(error);
  }
  if (response.ok) return response;
  const text = await response.text();
  if (response.status === 401 && askForKey && !isAgain && (await askForKey())) {
    return send(method, path, body, signal, true);
  }
  throw new ApiError(response.status, messageOf(text) || `${response.status} ${response.statusText}`);
}

function messageOf(text) {
  try {
    const { error } = JSON.parse(text);
    return typeof error === "string" ? error : (error?.message ?? "");
  } catch {
    return text.slice(0, 500);
  }
}

function explained(error) {
  if (error.name === "AbortError" || error instanceof ApiError) return error;
  return new ApiError(0, "the server cannot be reached, or left in the middle of its answer");
}
