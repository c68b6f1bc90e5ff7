"""Inflating as kombu does, and no further than a limit."""

from __future__ import annotations

import bz2
import lzma
import time
import tracemalloc
import zlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu import compression

from twolane.errors import MalformedMessageError
from twolane.publish.claimcheck import TooLargeError
from twolane.worker.inflate import inflated

LIMIT = 1_000_000
METHODS = [name for name in compression._aliases if name != "brotli" or compression.brotli]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [0, 1, LIMIT - 1, LIMIT])
def test_up_to_the_limit_all_comes_out(method: str, size: int) -> None:
    raw = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    packed, named = compression.compress(raw, method)
    assert inflated(packed, method, LIMIT) == raw
    assert inflated(packed, named, LIMIT) == raw


@pytest.mark.parametrize("method", METHODS)
def test_beyond_the_limit_it_is_refused(method: str) -> None:
    packed, _ = compression.compress(bytes(LIMIT + 1), method)
    with pytest.raises(TooLargeError, match=r"1,000,000 bytes.*twolane_max_body_size"):
        inflated(packed, method, LIMIT)


@pytest.mark.parametrize("method", METHODS)
def test_what_was_cut_is_refused(method: str) -> None:
    packed, _ = compression.compress(b"0123456789abcdef" * 1_000, method)
    with pytest.raises(MalformedMessageError, match="does not decompress"):
        inflated(packed[: len(packed) // 2], method, LIMIT)


@pytest.mark.parametrize("method", ["rot13", [1], {"a": 1}, 5, True])
def test_a_method_that_nobody_knows(method: Any) -> None:
    with pytest.raises(MalformedMessageError, match="does not decompress"):
        inflated(b"x", method, LIMIT)


def bomb_of(method: str) -> bytes:
    """A few hundred kilobytes that hold gigabytes."""
    zeros = bytes(10_000_000)
    if method == "zlib":
        stream = zlib.compressobj(9)
        return b"".join(stream.compress(zeros) for _ in range(20)) + stream.flush()
    return bz2.compress(zeros) * 8_000 if method == "bzip2" else lzma.compress(zeros) * 250


@pytest.mark.parametrize("method", ["zlib", "bzip2", "lzma"])
def test_a_bomb_takes_no_more_time_and_memory_than_the_limit(method: str) -> None:
    bomb = bomb_of(method)
    assert len(bomb) < 450_000
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(TooLargeError):
            inflated(bomb, method, LIMIT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 2
    assert peak < 40 * LIMIT


def test_memory_that_only_a_header_asks_for_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]
    huge = lzma.compress(b"x", format=lzma.FORMAT_XZ, filters=filters)
    with pytest.raises(MalformedMessageError, match=r"does not decompress.*emory"):
        inflated(huge, "lzma", LIMIT)


def test_an_applications_own_method_is_measured() -> None:
    compression.register(lambda raw: raw, lambda raw: raw * 100, "application/x-own", ["own"])
    try:
        assert inflated(b"ab", "own", 200) == b"ab" * 100
        with pytest.raises(TooLargeError):
            inflated(b"abc", "own", 200)
    finally:
        for names in (compression._encoders, compression._decoders):
            del names["application/x-own"]
        del compression._aliases["own"]


@given(
    raw=st.binary(max_size=50),
    tail=st.binary(max_size=5),
    method=st.sampled_from(METHODS),
    twice=st.booleans(),
)
def test_what_follows_is_read_as_kombu_reads_it(
    raw: bytes, tail: bytes, method: str, twice: bool
) -> None:
    packed, _ = compression.compress(raw, method)
    packed = packed * (2 if twice else 1) + tail
    try:
        expected = compression.decompress(packed, method)
    except Exception:  # noqa: BLE001 - each library has its own
        with suppress(MalformedMessageError):  # brotli's refuses what follows a stream, ours not
            inflated(packed, method, LIMIT)
    else:
        assert inflated(packed, method, LIMIT) == expected
