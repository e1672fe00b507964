import json
import os

import instructor
from openai import OpenAI
from pydantic import BaseModel


class Weather(BaseModel):
    """The weather in a city."""

    city: str


plain = OpenAI(base_url=os.environ["BASE_URL"], api_key="none")
client = instructor.from_openai(plain, mode=instructor.Mode.TOOLS)
ask = [{"role": "user", "content": "What is the weather in Oslo"}]
found = client.chat.completions.create(model="auto", messages=ask, response_model=Weather)
partial = list(client.chat.completions.create_partial(model="auto", messages=ask, response_model=Weather))[-1]
structured = instructor.from_openai(plain, mode=instructor.Mode.JSON_SCHEMA)
assert structured.chat.completions.create(model="auto", messages=ask, response_model=Weather).city
sums = [{"role": "user", "content": "What is 17 + 25?"}]
whole = plain.chat.completions.create(model="auto", messages=sums).choices[0].message.content
streamed = "".join(c.choices[0].delta.content or "" for c in plain.chat.completions.create(model="auto", messages=sums, stream=True))
print(json.dumps({"whole": whole, "streamed": streamed, "tool": [found.city, partial.city]}))
