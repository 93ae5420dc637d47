// A conversation as a tree: editing a message or answering again makes a branch, nothing is lost. Pure.
//
// messages: {id: {id, parent, created, …}}; `leaf` is the message that the shown branch ends with.

/** The messages from the first to `leaf`. */
export function branch(messages, leaf) {
  const path = [];
  for (let id = leaf; id && messages[id] && path.length < 100_000; id = messages[id].parent) path.push(messages[id]);
  return path.reverse();
}

/** The messages that answer the same one, oldest first. */
export function siblings(messages, id) {
  const { parent } = messages[id];
  return children(messages, parent);
}

export function children(messages, parent) {
  const found = Object.values(messages).filter((message) => (message.parent ?? null) === (parent ?? null));
  return found.sort((a, b) => a.created - b.created || (a.id < b.id ? -1 : 1));
}

/** Where a branch ends when its newest turns are followed. */
export function tip(messages, id) {
  let at = id;
  for (let newest = children(messages, at).at(-1); newest; newest = children(messages, at).at(-1)) at = newest.id;
  return at;
}

/** The leaf that shows the sibling `step` places beside `id`; the present one at either end. */
export function beside(messages, id, step) {
  const all = siblings(messages, id);
  const place = all.findIndex((message) => message.id === id) + step;
  return tip(messages, all[Math.max(0, Math.min(all.length - 1, place))].id);
}

/** A title from the first words of a conversation. */
export function titleOf(text) {
  const words = text.trim().replace(/\s+/g, " ");
  if (words.length <= 48) return words || "New chat";
  const cut = words.slice(0, 48);
  return `${cut.slice(0, Math.max(24, cut.lastIndexOf(" ")))} …`;
}

/** Messages as the API takes them. */
export function toApi(path, system) {
  const turns = path
    .filter((message) => message.state !== "running" && !(message.role === "assistant" && isEmpty(message)))
    .map((message) => {
      const turn = { role: message.role, content: withFiles(message) };
      if (message.thinking) turn.thinking = message.thinking;
      if (message.images?.length) turn.images = message.images.map((image) => image.data);
      if (message.tool_calls?.length) turn.tool_calls = message.tool_calls;
      if (message.tool_name) turn.tool_name = message.tool_name;
      if (message.tool_call_id) turn.tool_call_id = message.tool_call_id;
      return turn;
    });
  return system ? [{ role: "system", content: system }, ...turns] : turns;
}

/** The text of a message, behind the texts that were attached to it. */
function withFiles({ content, files }) {
  if (!files?.length) return content;
  const blocks = files.map(({ name, text }) => {
    const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
    const fence = "`".repeat(longest + 1);
    return `${name}:\n${fence}\n${text.replace(/\n$/, "")}\n${fence}`;
  });
  return [...blocks, content].filter(Boolean).join("\n\n");
}

function isEmpty(message) {
  return !message.content && !message.tool_calls?.length && !message.thinking;
}
