"""Records of requests."""

from __future__ import annotations

from pydantic import Field

from gateway.sections.base import Section


class LedgerSection(Section):
    """One record of each request, for sums and for learning."""

    path: str | None = Field(None, min_length=1, description="a JSONL file, from the working directory; default: none is written")
    max_bytes: int = Field(104_857_600, ge=4096, description="the file is rotated beyond this size")
    keep: int = Field(10, ge=1, le=1000, description="rotated files kept")
    redis: bool = Field(False, description="also to a stream in Redis")
    stream_length: int = Field(100_000, ge=1, le=100_000_000, description="records kept in that stream, about")
    prompts: bool = Field(
        False, description="also what was asked, and answered in between (needed by `pointsman ledger outcomes` and `replay`)"
    )
