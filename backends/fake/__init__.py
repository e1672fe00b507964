"""An honest stand-in for a vLLM server: the same HTTP surface, no model. It says so in `server` and in `/version`."""
