"""The requests that a planner has made beside the client's own, and what is read of their answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from backends.work import HEAD_BYTES, Work
from gateway.account.costs import Usage, add_usage
from gateway.flow.wire import Wire
from routers.api import Ask
from routers.planners.plain import Unfit

_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_LENGTHS = ("max_tokens", "max_completion_tokens")
_OF_THE_CONVERSATION = ("messages", "tools", "tool_choice", "functions", "function_call", "response_format", "parallel_tool_calls")

_FORMS = ("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structural_tag")
"""vLLM's ways to say what an answer must look like."""
_OF_THE_ANSWER = ("stop", "stop_token_ids", "min_tokens", "logit_bias", "bad_words", "allowed_token_ids", "ignore_eos")
"""What the client wants of the words that it will read: not of what a planner says to a model in words of its own."""
_OF_ONE_MODEL: tuple[tuple[str, Unfit], ...] = (
    ("logprobs", "logprobs"),
    ("prompt_logprobs", "logprobs"),
    ("functions", "tools"),
    *((form, "response_format") for form in _FORMS),
)
_TRACES = (b'logprobs"', b'"functions"', b'"structur', b'"guided_')
"""One of these stands in a request that has any of them."""
_NOT_SAID = (b"null", b"false", b"[]")
_MESSAGE_BYTES = 20
"""Of a message beside its text, as in gateway.flow.content."""


class _Message(Struct):
    content: str | None = None


class _Token(Struct):
    logprob: float | None = None


class _Logprobs(Struct):
    content: list[_Token] | None = None


class _Choice(Struct):
    message: _Message = msgspec.field(default_factory=_Message)
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Answer(Struct):
    choices: list[_Choice] = []


_ANSWER = msgspec.json.Decoder(_Answer)


class Read(Struct, frozen=True):
    """Of a whole chat completion: its text, why it ended, and its tokens' logprobs. None: it does not say."""

    text: str | None
    finish: str | None
    logprobs: tuple[float, ...] | None


def bound_to_one(wire: Wire) -> Unfit | None:
    """What the request asks for, beyond its needs, that is part of one model's own answer; None if nothing is."""
    if not any(trace in wire.tail for trace in _TRACES):
        return None
    members = _MEMBERS.decode(b'{"model":null' + wire.tail)
    return next((reason for name, reason in _OF_ONE_MODEL if bytes(members.get(name, b"null")) not in _NOT_SAID), None)


def size_of(wire: Wire, ask: Ask) -> int:
    """About how many bytes of text a tokenizer will see of an ask."""
    if ask.prompt is None:
        return wire.prompt.size
    return sum(len(text.encode(errors="replace")) + _MESSAGE_BYTES for _, text in ask.prompt)


def work_of(work: Work, ask: Ask, tokens: int) -> Work:
    """What pools know of an ask. `work`: of the client's own request. `tokens`: of the ask's prompt, estimated."""
    answer = work.answer_tokens if ask.max_tokens is None else ask.max_tokens
    if ask.prompt is None:
        return structs.replace(work, answer_tokens=answer)
    head = msgspec.json.encode([{"role": role, "content": text[:HEAD_BYTES]} for role, text in ask.prompt])[:HEAD_BYTES]
    return structs.replace(work, head=head, tokens=tokens, answer_tokens=answer)


def wire_of(wire: Wire, ask: Ask) -> Wire:
    """The client's request with what an ask changes. One in between is never streamed, and has one answer; the final one stays as it is."""
    if ask.final and ask.prompt is None and ask.max_tokens is None and not ask.stop and ask.temperature is None:
        return wire
    members = _MEMBERS.decode(b'{"model":null' + wire.tail)
    del members["model"]
    if not ask.final:
        for name in ("stream", "stream_options", "n"):
            members.pop(name, None)
    if ask.prompt is not None:
        for name in (*_OF_THE_CONVERSATION, *(() if ask.final else _OF_THE_ANSWER)):
            members.pop(name, None)
    if ask.max_tokens is not None:
        for name in _LENGTHS:
            members.pop(name, None)
    if ask.temperature:
        members.pop("seed", None)  # with it all samples would be the same words
    encode = msgspec.json.encode
    more = {name: Raw(encode(value)) for name, value in _more(ask).items()}
    tail = b"".join(b"," + encode(name) + b":" + bytes(value) for name, value in {**members, **more}.items()) + b"}"
    return structs.replace(wire, stream=wire.stream and ask.final, n=wire.n if ask.final else 1, max_tokens=_bound(wire, ask), tail=tail)


def _bound(wire: Wire, ask: Ask) -> int | None:
    return wire.max_tokens if ask.max_tokens is None else ask.max_tokens


def _more(ask: Ask) -> Mapping[str, object]:
    """What an ask adds. The text at which an answer is to stop stays in it, but not where the client would see it; and a begun answer is
    gone on with: both as in vLLM.
    """
    found: dict[str, object] = {}
    if ask.prompt is not None:
        found["messages"] = [{"role": role, "content": text} for role, text in ask.prompt]
    if ask.continues:
        found |= {"add_generation_prompt": False, "continue_final_message": True}
    if ask.max_tokens is not None:
        found["max_tokens"] = ask.max_tokens
    if ask.stop:
        found |= {"stop": list(ask.stop), "include_stop_str_in_output": not ask.final}
    if ask.temperature is not None:
        found["temperature"] = ask.temperature
    if ask.logprobs:
        found["logprobs"] = True
    return found


def read_answer(body: bytes) -> Read:
    """Whatever is not where OpenAI puts it is None."""
    try:
        answer = _ANSWER.decode(body)
    except msgspec.DecodeError:
        return Read(None, None, None)
    if not answer.choices:
        return Read(None, None, None)
    choice = answer.choices[0]
    tokens = None if choice.logprobs is None else choice.logprobs.content
    logprobs = None if tokens is None else tuple(token.logprob for token in tokens if token.logprob is not None)
    return Read(choice.message.content, choice.finish_reason, logprobs)


def usage_document(usage: Usage | None, rounds: Usage | None) -> dict[str, Any] | None:
    """`usage` as OpenAI shows it. `rounds`: the part of it that went into what came before the answer."""
    if usage is None:
        return None
    prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
    document: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    if rounds is not None:
        document["completion_tokens_details"] = {"reasoning_tokens": rounds.completion_tokens or 0}
    return document


def with_usage(body: bytes, own: Usage | None, rounds: Usage | None) -> bytes:
    """A whole answer, or a chunk's object, whose usage counts the rounds too."""
    document = msgspec.json.decode(body)
    document["usage"] = usage_document(add_usage(own, rounds), rounds)
    return msgspec.json.encode(document)
