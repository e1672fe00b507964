"""The gateway: OpenAI-style requests in, the right model's answer out."""

__version__ = "0.1.0"
