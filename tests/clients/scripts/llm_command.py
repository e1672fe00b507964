import json
import os
import subprocess
import sys
from pathlib import Path

folder = Path(os.environ["LLM_USER_PATH"])
(folder / "extra-openai-models.yaml").write_text(
    f"- model_id: pointsman\n  model_name: auto\n  api_base: {os.environ['BASE_URL']}\n  supports_tools: true\n"
)
command = [sys.executable, "-m", "llm"]


def run(*arguments: str) -> str:
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=True).stdout


whole = run("-m", "pointsman", "--no-stream", "What is 17 + 25?")
streamed = run("-m", "pointsman", "What is 17 + 25?")
functions = "def get_weather(city: str) -> str:\n    'The weather in a city.'\n    return 'rain in ' + city\n"
tool = run("-m", "pointsman", "--functions", functions, "What is the weather in Oslo?")
print(json.dumps({"whole": whole, "streamed": streamed, "tool": tool}))
