// The `openai` npm package: chat, stream, tool call, JSON schema, images, embeddings, Responses, errors, an abort.
import assert from "node:assert/strict";
import OpenAI from "openai";

const url = process.env.PEER_URL;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "x", maxRetries: 0 });
const hello = [{ role: "user", content: "Say hello." }];
const base = { model: "smollm2:135m", temperature: 0, max_tokens: 12 };

const reply = await client.chat.completions.create({ ...base, messages: hello });
assert.ok(reply.choices[0].message.content);
assert.equal(reply.usage.prompt_tokens, 12);

let text = "";
let usage;
const stream = await client.chat.completions.create({
  ...base, messages: hello, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(text, reply.choices[0].message.content);
assert.equal(usage.completion_tokens, reply.usage.completion_tokens);

const tools = [{
  type: "function",
  function: {
    name: "get_weather",
    description: "Get the weather of a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
}];
const ask = [{ role: "user", content: "What is the weather in Paris?" }];
const calling = { ...base, model: "smollm2-tools", max_tokens: 60, messages: ask, tools };
for (const choice of ["auto", "required", { type: "function", function: { name: "get_weather" } }]) {
  const called = await client.chat.completions.create({ ...calling, tool_choice: choice, parallel_tool_calls: false });
  const call = called.choices[0].message.tool_calls[0];
  assert.equal(call.function.name, "get_weather");
  assert.deepEqual(JSON.parse(call.function.arguments), { city: "Paris" });
}
const runner = client.chat.completions.stream(calling);
const final = await runner.finalChatCompletion();
assert.equal(final.choices[0].message.tool_calls[0].function.name, "get_weather");

const schema = {
  type: "object", properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"], additionalProperties: false,
};
const bound = await client.chat.completions.create({
  ...base, max_tokens: 60, messages: [{ role: "user", content: "Ann is 30. As JSON:" }],
  response_format: { type: "json_schema", json_schema: { name: "person", strict: true, schema } },
});
assert.ok(Number.isInteger(JSON.parse(bound.choices[0].message.content).age));

// Pictures of two by two pixels, green and red: another picture gives other probabilities, the same one the same.
const pictures = [
  "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGPgOiECRAwQCgAZDgOZnW1+AAAAAABJRU5ErkJggg==",
  "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGP4wCUHRAwQCgAh9gRh+UyrywAAAABJRU5ErkJggg==",
].map((data) => `data:image/png;base64,${data}`);
const seeing = { model: "tiny-llava", temperature: 0, max_tokens: 3, logprobs: true };
const question = { type: "text", text: "What is it?" };
const look = async (...images) => {
  const parts = images.map((image) => ({ type: "image_url", image_url: { url: image, detail: "low" } }));
  const messages = [{ role: "user", content: [...parts, question] }];
  const seen = await client.chat.completions.create({ ...seeing, messages });
  return { tokens: seen.usage.prompt_tokens, first: seen.choices[0].logprobs.content[0].logprob };
};
const [green, red, again, blind] = [
  await look(pictures[0]), await look(pictures[1]), await look(pictures[0]), await look(),
];
assert.ok(Math.abs(green.first - again.first) < 1e-3);
assert.ok(Math.abs(green.first - red.first) > 1e-3);
assert.ok(green.tokens >= blind.tokens + 4); // the projector makes four tokens of an image
assert.equal((await look(...pictures)).tokens - green.tokens, green.tokens - blind.tokens);
const imageItem = { type: "input_image", image_url: pictures[0], detail: "low" };
const described = await client.responses.create({
  model: "tiny-llava", temperature: 0, max_output_tokens: 3,
  input: [{ role: "user", content: [imageItem, { type: "input_text", text: question.text }] }],
});
assert.equal(described.usage.input_tokens, green.tokens);
await assert.rejects(
  look("https://example.com/cat.png"),
  (error) => error instanceof OpenAI.BadRequestError && /image URLs are not currently supported/.test(error.message),
);
await assert.rejects(
  client.chat.completions.create({
    ...seeing, model: "smollm2:135m",
    messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: pictures[0] } }] }],
  }),
  (error) => error instanceof OpenAI.BadRequestError && /does not support multimodal/.test(error.message),
);

const packed = await client.embeddings.create({ model: "all-minilm", input: ["Hello world", "Something else"] });
const plain = await client.embeddings.create({ model: "all-minilm", input: "Hello world", encoding_format: "float" });
assert.equal(packed.data[0].embedding.length, 384);
packed.data[0].embedding.forEach((x, i) => assert.ok(Math.abs(x - plain.data[0].embedding[i]) < 1e-3));

const response = await client.responses.create({
  model: "smollm2:135m", input: "Say hello.", max_output_tokens: 8, temperature: 0,
});
assert.ok(response.output_text);

await assert.rejects(
  client.chat.completions.create({ ...base, model: "nope", messages: hello }),
  (error) => error instanceof OpenAI.NotFoundError && /model 'nope' not found/.test(error.message),
);

const controller = new AbortController();
const long = await client.chat.completions.create(
  { ...base, max_tokens: 4000, messages: [{ role: "user", content: "Count to one thousand." }], stream: true },
  { signal: controller.signal },
);
for await (const _ of long) controller.abort();
const deadline = Date.now() + 10_000;
let running;
do {
  running = (await (await fetch(`${url}/api/requests`)).json()).requests;
} while (running.length && Date.now() < deadline);
assert.deepEqual(running, []);
