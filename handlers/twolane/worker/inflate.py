"""Decompression that stops at a limit: a few hundred kilobytes can hold many gigabytes.

kombu decompresses a body at one go, by a function that it looks up by the ``compression`` header.
For the functions that kombu registers itself there is a decompressor here that works step by step
and stops as soon as more than the limit has come out. A method that an application has registered
is called as it is, and its outcome is measured.
https://docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.compression.html
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from kombu import compression as kombu_compression

from twolane.errors import MalformedMessageError
from twolane.publish.claimcheck import TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The memory that an LZMA stream may ask for beside what comes out, in bytes: ``xz -9`` asks for
#: 65 MiB, and a header may ask for 4 GiB.
_LZMA_MEMORY = 128 * 1024 * 1024

#: How much is given to a decompressor that takes no limit, in bytes.
_BITE = 64


def inflated(body: bytes | str, method: Any, limit: int) -> bytes:
    """The decompressed body. Raises ``MalformedMessageError`` if bad or above ``limit`` bytes."""
    try:
        data = body.encode() if isinstance(body, str) else body
        parts: list[bytes] = []
        size = 0
        for part in _parts(data, method, limit):
            size += len(part)
            if size > limit:
                raise TooLargeError(limit)
            parts.append(part)
        return b"".join(parts)
    except MalformedMessageError:
        raise
    except Exception as error:
        raise MalformedMessageError(f"the message's body does not decompress: {error!r}") from error


def _parts(data: bytes, method: Any, limit: int) -> Iterator[bytes]:
    decode: Callable[[bytes], bytes] = kombu_compression.get_decoder(method)
    steps = {
        "zlib": _zlib, "bz2": _bz2, "lzma": _lzma, "_brotli": _brotli,
        "compression.zstd": _zstd, "backports.zstd": _zstd,
    }.get(_home(decode))  # fmt: skip
    # One more than the limit shows that there is more.
    yield from steps(data, limit + 1) if steps is not None else (decode(data),)


def _home(decode: Any) -> str:
    """The module of a decoder that is kombu's own; nothing for an application's."""
    name = str(getattr(decode, "__module__", ""))
    module = sys.modules.get(name)
    return name if getattr(module, "decompress", None) is decode else ""


def _zlib(data: bytes, most: int) -> Iterator[bytes]:
    import zlib

    stream = zlib.decompressobj()
    yield stream.decompress(data, most)
    if not stream.eof:
        # What is over was not asked for, or the stream was cut.
        more = stream.decompress(stream.unconsumed_tail, most)
        if not more and not stream.eof:
            raise ValueError("incomplete or truncated stream")
        yield more


def _bz2(data: bytes, most: int) -> Iterator[bytes]:
    import bz2

    yield from _streams(data, bz2.BZ2Decompressor, most, OSError)


def _lzma(data: bytes, most: int) -> Iterator[bytes]:
    import lzma

    memory = max(_LZMA_MEMORY, most)
    yield from _streams(data, lambda: lzma.LZMADecompressor(memlimit=memory), most, lzma.LZMAError)


def _zstd(data: bytes, most: int) -> Iterator[bytes]:
    # The standard library's from Python 3.14 on; kombu has imported the one that there is.
    zstd: Any = sys.modules.get("compression.zstd") or sys.modules["backports.zstd"]
    yield from _streams(data, zstd.ZstdDecompressor, most, zstd.ZstdError)


def _brotli(data: bytes, most: int) -> Iterator[bytes]:
    brotli: Any = sys.modules["_brotli"]
    stream, size = brotli.Decompressor(), 0
    for start in range(0, len(data), _BITE):
        part = stream.process(data[start : start + _BITE])
        yield part
        size += len(part)
        if size > most:
            return
    if not stream.is_finished():
        raise ValueError("incomplete or truncated stream")


def _streams(
    data: bytes, start: Callable[[], Any], most: int, error: type[Exception]
) -> Iterator[bytes]:
    """One stream after the other, as the libraries' own ``decompress`` reads them."""
    any_read = False
    while True:
        stream = start()
        try:
            part = stream.decompress(data, max_length=most)
            while part or stream.eof:
                yield part
                if stream.eof:
                    break
                part = stream.decompress(b"", max_length=most)
        except error:
            if any_read:
                return  # bytes after the last stream that are not a stream are ignored
            raise
        if not stream.eof:
            raise ValueError("incomplete or truncated stream")
        any_read, data = True, stream.unused_data
        if not data:
            return
