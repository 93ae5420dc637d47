// One answer on its way: the stream of /api/chat into a message, and what its end says of speed, cache and window.

import { call, lines } from "../lib/api.js";
import { toApi } from "./tree.js";

const SAVE_EVERY_MS = 1500;

/** Fill `message` with the answer to `path`, until it ends or is stopped. `onChange` hears of every piece. */
export class Answer {
  constructor(conversation, path, message, { onChange, save }) {
    this.conversation = conversation;
    this.message = message;
    this.progress = null;
    this.path = path;
    this.pieces = 0;
    this.firstAt = 0;
    this.began = performance.now();
    this.onChange = onChange;
    this.save = save;
    this.abort = new AbortController();
    this.savedAt = 0;
  }

  stop() {
    this.abort.abort();
  }

  /** Tokens a second so far: pieces are tokens, but for a few that are held back. */
  get speed() {
    const took = (performance.now() - this.firstAt) / 1000;
    return this.pieces > 1 && took > 0.2 ? this.pieces / took : NaN;
  }

  async run() {
    const { message } = this;
    try {
      for await (const line of lines("api/chat", this.body(), { signal: this.abort.signal })) this.take(line);
      if (message.state === "running") throw new Error("the answer ended before its end");
    } catch (error) {
      if (error.name === "AbortError") message.state = "stopped";
      else {
        message.state = "failed";
        message.error = error.message;
      }
    }
    this.progress = null;
    if (message.state === "done") await this.measureWindow();
    await this.save(message);
    this.onChange();
  }

  body() {
    const { model, system, options, think, format, tools } = this.conversation;
    const body = { model, messages: toApi(this.path, system), progress: true, options: options ?? {} };
    if (think) body.think = { on: true, off: false }[think] ?? think;
    if (format === "json") body.format = "json";
    else if (format) body.format = JSON.parse(format);
    if (tools) body.tools = JSON.parse(tools);
    return body;
  }

  take(line) {
    const { message } = this;
    this.progress = line.progress ?? null;
    const { content = "", thinking = "", tool_calls: calls } = line.message ?? {};
    if (content || thinking || calls) {
      if (!this.firstAt) this.firstAt = performance.now();
      this.pieces += 1;
    }
    if (thinking) message.thinking = (message.thinking ?? "") + thinking;
    if (content) {
      if (message.thinking && !message.content) message.thought_ms = Math.round(performance.now() - this.firstAt);
      message.content += content;
    }
    if (calls) message.tool_calls = [...(message.tool_calls ?? []), ...calls];
    if (line.done) this.finish(line);
    this.onChange();
    if (performance.now() - this.savedAt > SAVE_EVERY_MS) {
      this.savedAt = performance.now();
      this.save(message);
    }
  }

  finish(line) {
    const { message } = this;
    message.state = "done";
    message.reason = line.done_reason;
    message.warnings = line.warnings ?? [];
    message.stats = {
      prompt: line.prompt_eval_count ?? 0,
      cached: line.prompt_eval_cached_count ?? 0,
      promptSeconds: (line.prompt_eval_duration ?? 0) / 1e9,
      tokens: line.eval_count ?? 0,
      seconds: (line.eval_duration ?? 0) / 1e9,
      loadSeconds: (line.load_duration ?? 0) / 1e9,
      totalSeconds: (line.total_duration ?? 0) / 1e9,
    };
  }

  /** The window that this answer had: the loaded model knows. */
  async measureWindow() {
    try {
      const { models } = await call("GET", "api/ps");
      const name = this.conversation.model;
      const row = models.find((each) => each.name === name || each.name === `${name}:latest`) ?? (models.length === 1 ? models[0] : null);
      if (row) this.message.stats.window = row.context_length;
    } catch {
      // it is shown without, then
    }
  }
}
