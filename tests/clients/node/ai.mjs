import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText, tool } from "ai";
import { z } from "zod";

const provider = createOpenAICompatible({ name: "pointsman", baseURL: process.env.BASE_URL, apiKey: "none", includeUsage: true });
const model = provider("auto");
const whole = (await generateText({ model, prompt: "What is 17 + 25?" })).text;
const stream = streamText({ model, prompt: "What is 17 + 25?" });
let streamed = "";
for await (const part of stream.textStream) streamed += part;
const seen = [];
await generateText({
  model,
  prompt: "What is the weather in Oslo?",
  tools: {
    get_weather: tool({
      description: "The weather in a city",
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => { seen.push(city); return `rain in ${city}`; },
    }),
  },
});
console.log(JSON.stringify({ whole, streamed, tool: seen }));
