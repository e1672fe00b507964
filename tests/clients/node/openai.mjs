import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "none" });
const messages = [{ role: "user", content: "What is 17 + 25?" }];
const whole = (await client.chat.completions.create({ model: "auto", messages })).choices[0].message.content;
let streamed = "";
for await (const chunk of await client.chat.completions.create({ model: "auto", messages, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
const question = [{ role: "user", content: "What is the weather in Oslo?" }];
const answer = await client.chat.completions.create({ model: "auto", messages: question, tools });
const tool = answer.choices[0].message.tool_calls[0].function.arguments;
console.log(JSON.stringify({ whole, streamed, tool }));
