import json
import os

from openai import OpenAI

client = OpenAI(base_url=os.environ["BASE_URL"], api_key="none")
ask = [{"role": "user", "content": "What is 17 + 25?"}]
whole = client.chat.completions.create(model="auto", messages=ask)
stream = client.chat.completions.create(model="auto", messages=ask, stream=True, stream_options={"include_usage": True})
chunks = list(stream)
assert chunks[-1].usage.completion_tokens > 0
parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
tools = [{"type": "function", "function": {"name": "get_weather", "parameters": parameters}}]
question = [{"role": "user", "content": "What is the weather in Oslo?"}]
first = client.chat.completions.create(model="auto", messages=question, tools=tools)
call = first.choices[0].message.tool_calls[0]
question += [first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
last = client.chat.completions.create(model="auto", messages=question, tools=tools)
assert "rain" in last.choices[0].message.content
raw = client.chat.completions.with_raw_response.create(model="auto", messages=ask, extra_body={"router": {"explain": True}})
assert raw.headers["x-router-route"] == "auto"
assert raw.parse().router["route"] == "auto"
streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
print(json.dumps({"whole": whole.choices[0].message.content, "streamed": streamed, "tool": call.function.arguments}))
