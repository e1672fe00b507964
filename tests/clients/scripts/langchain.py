import json
import os

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


model = ChatOpenAI(model="auto", base_url=os.environ["BASE_URL"], api_key="none")
whole = model.invoke("What is 17 + 25?").content
streamed = "".join(chunk.content for chunk in model.stream("What is 17 + 25?"))
called = model.bind_tools([get_weather]).invoke("What is the weather in Oslo?").tool_calls[0]
print(json.dumps({"whole": whole, "streamed": streamed, "tool": get_weather.invoke(called["args"])}))
