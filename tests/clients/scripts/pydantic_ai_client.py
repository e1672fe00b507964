import asyncio
import json
import os

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


async def main() -> None:
    model = OpenAIChatModel("auto", provider=OpenAIProvider(base_url=os.environ["BASE_URL"], api_key="none"))
    agent = Agent(model)
    whole = (await agent.run("What is 17 + 25?")).output
    async with agent.run_stream("What is 17 + 25?") as stream:
        streamed = await stream.get_output()
    seen = []
    helper = Agent(model)

    @helper.tool_plain
    def get_weather(city: str) -> str:
        """The weather in a city."""
        seen.append(city)
        return f"rain in {city}"

    told = (await helper.run("What is the weather in Oslo?")).output
    assert "rain in" in told
    print(json.dumps({"whole": whole, "streamed": streamed, "tool": seen}))


asyncio.run(main())
