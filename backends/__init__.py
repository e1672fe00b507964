"""Where a request goes: connections to vLLM servers, their health and their load."""
