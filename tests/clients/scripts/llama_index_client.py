import json
import os

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


settings = {
    "model": "auto",
    "api_base": os.environ["BASE_URL"],
    "api_key": "none",
    "is_chat_model": True,
    "is_function_calling_model": True,
}
llm = OpenAILike(**settings)
ask = [ChatMessage(role="user", content="What is 17 + 25?")]
whole = llm.chat(ask).message.content
streamed = "".join(part.delta or "" for part in llm.stream_chat(ask))
tool = FunctionTool.from_defaults(get_weather)
answer = llm.chat_with_tools([tool], user_msg="What is the weather in Oslo?")
call = llm.get_tool_calls_from_response(answer)[0]
print(json.dumps({"whole": whole, "streamed": streamed, "tool": call.tool_kwargs}))
