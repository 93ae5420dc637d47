// AI SDK: streamText with one tool and its result, through the provider for OpenAI-compatible servers.
import { writeFileSync } from "node:fs";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { jsonSchema, stepCountIs, streamText, tool } from "ai";

const provider = createOpenAICompatible({ name: "corral", baseURL: `${process.env.PEER_URL}/v1`, includeUsage: true });
const schema = { type: "object", properties: { text: { type: "string" } }, required: ["text"], additionalProperties: false };
const keep = tool({
  description: "Keep a note.",
  inputSchema: jsonSchema(schema),
  execute: async ({ text }) => {
    writeFileSync("made.txt", text);
    return "kept";
  },
});
const result = streamText({
  model: provider(process.env.PEER_MODEL),
  prompt: process.argv[2],
  tools: { keep },
  stopWhen: stepCountIs(3),
});
for await (const piece of result.textStream) process.stdout.write(piece);
