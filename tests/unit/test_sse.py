"""Events out of bytes, whatever the boundaries of the reads were."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.flow.relay import StreamFilter, explain, explain_first, rename
from gateway.flow.sse import EventTooLarge, Splitter, data_of, event, events

STREAM = (
    b'\xef\xbb\xbfdata: {"a":"\xe6\x9d\xb1\xe4\xba\xac"}\n\n: comment\n\ndata: {"b":1}\r\n\r\nevent: x\ndata: 1\ndata: 2\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\ndata: [DONE]\n\n'
)


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_split_gives_the_same_events(cuts: list[int]) -> None:
    splitter = Splitter(10_000)
    places = [0, *sorted(cuts), len(STREAM)]
    blocks = [splitter.feed(STREAM[a:b]) for a, b in itertools.pairwise(places)]
    blocks.append(splitter.flush())
    assert b"".join(blocks) == STREAM
    assert [found for block in blocks for found in events(block)] == list(events(STREAM))


def test_every_single_split_point_and_byte_by_byte() -> None:
    whole = [data_of(one) for one in events(STREAM)]
    assert whole == [b'{"a":"\xe6\x9d\xb1\xe4\xba\xac"}', None, b'{"b":1}', b"1\n2", whole[4], b"[DONE]"]
    for at in range(len(STREAM)):
        splitter = Splitter(10_000)
        blocks = [splitter.feed(STREAM[:at]), splitter.feed(STREAM[at:]), splitter.flush()]
        assert [data_of(one) for block in blocks for one in events(block)] == whole
    splitter = Splitter(10_000)
    single = b"".join(splitter.feed(STREAM[i : i + 1]) for i in range(len(STREAM))) + splitter.flush()
    assert single == STREAM


@given(st.binary(max_size=300), st.integers(1, 40))
def test_no_byte_is_lost_or_made_up(data: bytes, step: int) -> None:
    splitter = Splitter(10_000)
    out = b"".join(splitter.feed(data[i : i + step]) for i in range(0, len(data), step)) + splitter.flush()
    assert out == data


def test_an_unfinished_event_is_bounded() -> None:
    splitter = Splitter(100)
    splitter.feed(b"data: " + b"x" * 90)
    with pytest.raises(EventTooLarge):
        splitter.feed(b"xxxxxxxxxx")


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_usage_chunk_is_read_and_held_back_unless_asked_for(keep: bool, step: int) -> None:
    splitter, stream = Splitter(10_000), StreamFilter(keep)
    out = b""
    for at in range(0, len(STREAM), step):
        block = splitter.feed(STREAM[at : at + step])
        out += stream.pass_on(block) if block else b""
    assert stream.done
    assert stream.usage is not None
    assert (stream.usage.prompt_tokens, stream.usage.completion_tokens) == (3, 4)
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
    assert out == (STREAM if keep else STREAM.replace(usage, b""))


def test_usage_null_and_usage_in_a_text_are_no_usage() -> None:
    stream = StreamFilter(False)
    block = event(b'{"choices":[{"delta":{"content":"\\"usage\\":{"}}],"usage":null}')
    assert stream.pass_on(block) == block
    assert stream.usage is None
    running = event(b'{"choices":[{}],"usage":{"prompt_tokens":1,"completion_tokens":1}}')
    assert stream.pass_on(running) == running, "usage beside choices was asked for by the client"


def test_rename_touches_the_member_and_never_the_text() -> None:
    text = b'{"model":"a/b","choices":[{"delta":{"content":"say \\"model\\":\\"a/b\\""}}]}'
    assert rename(text, (b'"a/b"', b'"small"')) == text.replace(b'"model":"a/b"', b'"model":"small"', 1)
    assert rename(b'{"model": "a/b"}', (b'"a/b"', b'"s"')) == b'{"model": "s"}'
    assert rename(text, None) is text


def test_the_decision_goes_into_an_object_and_into_the_first_event() -> None:
    assert explain(b'{"a":1}\n', b"{}") == b'{"a":1,"router":{}}\n'
    assert explain(b"{ }", b"{}") == b'{ "router":{}}'
    block = b': hi\n\ndata: {"a":{"b":1}}\n\ndata: {"c":1}\n\n'
    assert explain_first(block, b"1") == b': hi\n\ndata: {"a":{"b":1},"router":1}\n\ndata: {"c":1}\n\n'


FINISH = event(b'{"choices":[{"delta":{},"finish_reason":"stop"}]}')
SIGNED = event(b'{"choices":[{"delta":{},"finish_reason":"stop"}],"system_fingerprint":"fp"}')
LAST = event(b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1},"system_fingerprint":"fp"}')
TEXT = event(b'{"choices":[{"delta":{"content":"\\"finish_reason\\":\\"stop\\""},"finish_reason":null}]}')


DONE = event(b"[DONE]")


@pytest.mark.parametrize("reads", [[TEXT, FINISH, LAST, DONE], [TEXT + FINISH, LAST + DONE], [TEXT + FINISH + LAST + DONE]])
def test_the_servers_name_stands_where_it_does_without_usage(reads: list[bytes]) -> None:
    stream = StreamFilter(False)
    assert b"".join(stream.pass_on(read) for read in reads) + stream.rest() == TEXT + SIGNED + event(b"[DONE]")
    kept = StreamFilter(True)
    assert b"".join(kept.pass_on(read) for read in reads) + kept.rest() == b"".join(reads)


def test_a_finish_without_usage_after_it_comes_through() -> None:
    for more in (event(b"[DONE]"), TEXT + event(b"[DONE]")):
        stream = StreamFilter(False)
        assert stream.pass_on(TEXT) == TEXT, "a text that speaks of finish reasons is not held back"
        assert stream.pass_on(FINISH) + stream.pass_on(more) == FINISH + more
    cut = StreamFilter(False)
    assert cut.pass_on(FINISH) == b""
    assert cut.rest() == FINISH


@pytest.mark.parametrize("gap", [b"", b": still here\n\n", b": a\n\n: b\r\n\r\n"])
@pytest.mark.parametrize("blank", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_one_read_with_the_whole_stream_is_passed_on_as_many_reads_are(blank: bytes, gap: bytes) -> None:
    text = b'data: {"choices":[{"delta":{"content":"a \\"usage\\": {1}"},"finish_reason":null}],"usage":null}' + blank
    finish = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":null}' + blank
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4},"system_fingerprint":"vllm-1"}' + blank
    parts = [*[text] * 50, finish + gap + usage, b"data: [DONE]" + blank]
    by_parts, at_once = StreamFilter(False), StreamFilter(False)
    expected = b"".join(by_parts.pass_on(part) for part in parts)
    assert at_once.pass_on(b"".join(parts)) == expected
    assert expected.count(b"vllm-1") == 1
    assert expected.startswith(text * 50)
    assert at_once.done
    assert at_once.usage == by_parts.usage is not None
