"""vLLM's requests and answers: what it refuses, and how its JSON looks. (vllm/entrypoints/openai/protocol.py)"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from backends.fake.schema import example
from backends.fake.skills import answer, pieces

SIGNATURE = {"system_fingerprint": "fake-vllm"}
"""vLLM signs whole answers, and of a stream the last chunk that it sends: the usage chunk, if usage was asked for."""


class Refused(Exception):
    """A request that the server does not take."""

    def __init__(self, message: str, *, status: int = 400, kind: str = "BadRequestError", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.document = {"error": {"message": message, "type": kind, "param": param, "code": status}}


@dataclass(frozen=True, slots=True)
class Character:
    """How a fake model is. `skill` in [0, 1]; `words`: length of its prose."""

    name: str
    skill: float = 0.5
    words: int = 24
    max_model_len: int = 32768


@dataclass(frozen=True, slots=True)
class Generation:
    """What one request gets: texts and tool calls were decided when it came."""

    id: str
    model: str
    chat: bool
    created: int
    texts: tuple[str, ...]
    tool_call: Mapping[str, Any] | None
    prompt: str
    stream: bool
    include_usage: bool
    logprobs: bool
    max_tokens: int | None
    stop: tuple[str, ...] = field(default=())

    @property
    def prompt_tokens(self) -> int:
        return max(1, len(self.prompt) // 4)

    def pieces(self, index: int) -> tuple[list[str], str]:
        """The tokens of one choice, and its finish reason."""
        text = self.texts[index]
        cut = min((at for word in self.stop if (at := text.find(word)) >= 0), default=None)
        found = pieces(text if cut is None else text[:cut])
        if self.max_tokens and len(found) > self.max_tokens:
            return found[: self.max_tokens], "length"
        return found, "tool_calls" if self.tool_call else "stop"


def generation(fields: Mapping[str, Any], character: Character, chat: bool, identity: str, created: int) -> Generation:
    """Reads a request as strictly as vLLM does, but for what OpenAI's own test suite sends: `stream_options` without `stream`, which
    vLLM refuses, and `max_tokens: 0`, which stands for no bound here. Raises Refused.
    """
    _check_numbers(fields)
    stream = fields.get("stream") or False
    if not isinstance(stream, bool):
        raise Refused("stream must be a boolean", param="stream")
    options = fields.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise Refused("stream_options must be an object", param="stream_options")
    prompt = _chat_prompt(fields) if chat else _plain_prompt(fields)
    bound = fields.get("max_completion_tokens") or fields.get("max_tokens")
    if len(prompt) // 4 + (bound or 0) > character.max_model_len:
        raise Refused(
            f"This model's maximum context length is {character.max_model_len} tokens. However, you requested "
            f"{len(prompt) // 4 + (bound or 0)} tokens. Please reduce the length of the messages or completion.",
            param="input_tokens",
        )
    call = _tool_call(fields, identity) if chat else None
    stop = fields.get("stop") or ()
    texts = [_text(fields, character, prompt, number) for number in range(fields.get("n") or 1)]
    return Generation(
        id=identity,
        model=character.name,
        chat=chat,
        created=created,
        texts=("",) * len(texts) if call else tuple(texts),
        tool_call=call,
        prompt=prompt,
        stream=stream,
        include_usage=bool((options or {}).get("include_usage")),
        logprobs=bool(fields.get("logprobs")),
        max_tokens=bound,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )


def _check_numbers(fields: Mapping[str, Any]) -> None:
    for name, low, high in (("temperature", 0, 1e9), ("top_p", 0, 1), ("presence_penalty", -2, 2), ("frequency_penalty", -2, 2)):
        value = fields.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high):
            raise Refused(f"{name} must be in [{low}, {high}], got {value}.", param=name)
    for name, least in (("max_tokens", 0), ("max_completion_tokens", 0), ("n", 1)):
        value = fields.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise Refused(f"{name} must be at least {least}, got {value}.", param=name)


def _chat_prompt(fields: Mapping[str, Any]) -> str:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused("messages: a non-empty list is required", param="messages")
    lines = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise Refused("messages: each needs a role", param="messages")
        lines.append(f"{message['role']}: {_content(message.get('content'))}")
    return "\n".join(lines)


def _content(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _plain_prompt(fields: Mapping[str, Any]) -> str:
    prompt = fields.get("prompt")
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and prompt:
        return "\n".join(part if isinstance(part, str) else "token" for part in prompt)
    raise Refused("prompt: a string or a non-empty list is required", param="prompt")


def _text(fields: Mapping[str, Any], character: Character, prompt: str, number: int) -> str:
    form = fields.get("response_format")
    if isinstance(form, dict) and form.get("type") == "json_object":
        return '{"answer": "text"}'
    if isinstance(form, dict) and form.get("type") == "json_schema":
        return json.dumps(example((form.get("json_schema") or {}).get("schema") or {}), ensure_ascii=False)
    messages = fields.get("messages")
    if isinstance(messages, list) and messages[-1].get("role") == "tool":
        return f"The tool says: {_content(messages[-1].get('content'))}"
    question = prompt
    if isinstance(messages, list):
        question = next((_content(m.get("content")) for m in reversed(messages) if m.get("role") == "user"), prompt)
    text = answer(character.name, character.skill, question, character.words)
    return text if number == 0 else f"{text} (choice {number + 1})"


def _tool_call(fields: Mapping[str, Any], identity: str) -> Mapping[str, Any] | None:
    """Calls the tool that the request names, or that the last question speaks of."""
    tools = [tool.get("function") or {} for tool in fields.get("tools") or () if isinstance(tool, dict)]
    choice = fields.get("tool_choice")
    last = fields["messages"][-1]
    if not tools or choice == "none" or last.get("role") == "tool":
        return None
    question = _content(last.get("content"))
    wanted = (choice.get("function") or {}).get("name") if isinstance(choice, dict) else None
    spoken = [tool for tool in tools if _speaks_of(question, tool)]
    named = [tool for tool in tools if tool.get("name") == wanted]
    picked = (named or spoken or (tools if choice == "required" else []))[:1]
    if not picked:
        return None
    arguments = json.dumps(
        example(picked[0].get("parameters") or {"type": "object"}, hint=question.split()[-1].strip("?.!") if question else "")
    )
    return {"id": f"call_{identity[-12:]}", "type": "function", "function": {"name": picked[0].get("name", ""), "arguments": arguments}}


def _speaks_of(question: str, tool: Mapping[str, Any]) -> bool:
    words = set(str(tool.get("name", "")).lower().replace("_", " ").split()) - {"get", "the", "a", "current", "result", "final"}
    return any(word.strip("?.!,").lower() in words for word in question.split())


def usage(made: Generation) -> dict[str, Any]:
    count = sum(len(made.pieces(index)[0]) for index in range(len(made.texts)))
    return {
        "prompt_tokens": made.prompt_tokens,
        "total_tokens": made.prompt_tokens + count,
        "completion_tokens": count,
        "prompt_tokens_details": None,
    }


def whole(made: Generation, aborted: bool = False) -> dict[str, Any]:
    """The answer to a request that is not streamed. `aborted`: the engine fell asleep before a token was there."""
    choices = []
    for index in range(len(made.texts)):
        tokens, reason = ([], "abort") if aborted else made.pieces(index)
        text = "".join(tokens)
        if made.chat:
            content = None if made.tool_call else text
            message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None, "annotations": None}
            message |= {"tool_calls": [made.tool_call] if made.tool_call else [], "reasoning_content": None}
            logprobs = _chat_logprobs(tokens) if made.logprobs else None
            choices.append({"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason, "stop_reason": None})
        else:
            choices.append(
                {"index": index, "text": text, "logprobs": None, "finish_reason": reason, "stop_reason": None, "prompt_logprobs": None}
            )
    kind = "chat.completion" if made.chat else "text_completion"
    head = {"id": made.id, "object": kind, "created": made.created, "model": made.model}
    return {**head, "choices": choices, "usage": usage(made), **SIGNATURE}


def chunks(made: Generation) -> Iterator[bytes]:
    """The data of each event of a streamed answer, in order, `[DONE]` included."""
    head = {"id": made.id, "object": "chat.completion.chunk" if made.chat else "text_completion", "created": made.created}
    head["model"] = made.model

    def data(choices: list[dict[str, Any]], more: Mapping[str, Any] | None = None) -> bytes:
        return json.dumps({**head, "choices": choices, **(more or {})}, ensure_ascii=False, separators=(",", ":")).encode()

    for index in range(len(made.texts)):
        if made.chat:
            yield data([{"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}])
        if made.tool_call is not None:
            for delta in _tool_deltas(made.tool_call):
                yield data([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}])
        tokens, reason = made.pieces(index)
        for place, token in enumerate(tokens):
            end = reason if place == len(tokens) - 1 else None
            last = {"stop_reason": None} if end else {}
            signed = SIGNATURE if end and index == len(made.texts) - 1 and not made.include_usage else None
            if made.chat:
                logprobs = _chat_logprobs([token]) if made.logprobs else None
                yield data(
                    [{"index": index, "delta": {"content": token} if token else {}, "logprobs": logprobs, "finish_reason": end, **last}],
                    signed,
                )
            else:
                yield data([{"index": index, "text": token, "logprobs": None, "finish_reason": end, "stop_reason": None}], signed)
    if made.include_usage:
        yield data([], {"usage": usage(made), **SIGNATURE})
    yield b"[DONE]"


def abort_chunk(made: Generation) -> bytes:
    """The data of the last event but `[DONE]` of a stream whose engine falls asleep."""
    kind = "chat.completion.chunk" if made.chat else "text_completion"
    said: dict[str, Any] = {"delta": {}} if made.chat else {"text": ""}
    choice = {"index": 0, **said, "logprobs": None, "finish_reason": "abort", "stop_reason": None}
    return json.dumps({"id": made.id, "object": kind, "created": made.created, "model": made.model, "choices": [choice]}).encode()


def _tool_deltas(call: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    function = call["function"]
    yield {"tool_calls": [{"id": call["id"], "type": "function", "index": 0, "function": {"name": function["name"], "arguments": ""}}]}
    arguments = function["arguments"]
    for start in range(0, len(arguments), 8):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": arguments[start : start + 8]}}]}


def _chat_logprobs(tokens: list[str]) -> dict[str, Any]:
    content = [{"token": t, "logprob": -0.1, "bytes": list(t.encode()), "top_logprobs": []} for t in tokens]
    return {"content": content}
