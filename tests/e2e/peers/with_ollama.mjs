// The `ollama` npm package: list, show, chat, stream, abort, generate, tool call, embed, an error.
import assert from "node:assert/strict";
import { Ollama } from "ollama";

const client = new Ollama({ host: process.env.PEER_URL });
const options = { temperature: 0, num_predict: 12 };
const hello = [{ role: "user", content: "Say hello." }];

const names = (await client.list()).models.map((model) => model.name);
assert.ok(names.includes("smollm2:135m") && names.includes("all-minilm:latest"));
assert.ok((await client.show({ model: "smollm2:135m" })).capabilities.includes("completion"));

const reply = await client.chat({ model: "smollm2:135m", messages: hello, options });
let text = "";
let last;
for await (const part of await client.chat({ model: "smollm2:135m", messages: hello, options, stream: true })) {
  text += part.message.content;
  last = part;
}
assert.equal(text, reply.message.content);
assert.ok(last.done && last.eval_count > 0);

const made = await client.generate({ model: "smollm2:135m", prompt: "The sky is", options });
assert.ok(made.response && made.context.length > 0);

const tools = [{
  type: "function",
  function: {
    name: "get_weather",
    description: "Get the weather of a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
}];
const ask = [{ role: "user", content: "What is the weather in Paris?" }];
const called = await client.chat({ model: "smollm2-tools", messages: ask, tools, options: { num_predict: 60 } });
assert.deepEqual(called.message.tool_calls[0].function.arguments, { city: "Paris" });

const vectors = await client.embed({ model: "all-minilm", input: ["Hello world", "Something else"] });
assert.deepEqual(vectors.embeddings.map((vector) => vector.length), [384, 384]);

await assert.rejects(client.chat({ model: "nope", messages: hello }), /not found/);

const long = await client.generate({
  model: "smollm2:135m", prompt: "Count to one thousand.", stream: true, options: { num_predict: 4000 },
});
await assert.rejects(async () => {
  for await (const _ of long) long.abort();
}, { name: "AbortError" });
