"""The fenced blocks of a page, and what the comments before them say.

A marker stands on a line of its own directly before the fence, several may be stacked:

``<!-- emulator -->``        a shell block that wants `twolane up` beside it; with a value, in
                             that folder
``<!-- file: PATH -->``      the block is the content of that file
``<!-- not run: REASON -->`` the block cannot run here
``<!-- breaks: RULE -->``    a template that `twolane lint` must find that rule in
``<!-- tested: NAME -->``    the test function of that name runs it
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MARKERS = ("emulator", "file", "not run", "breaks", "tested")
#: Languages of what is shown, not run: output and pictures.
SHOWN = frozenset({"text", "mermaid"})
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w+-]*)\s*$")
_MARKER = re.compile(r"^ *<!-- (?P<name>[a-z ]+?)(?:: (?P<value>.+?))? -->\s*$")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; ``line`` is that of its first line of text."""

    page: str
    line: int
    language: str
    text: str
    markers: Mapping[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def read(path: Path) -> list[Block]:
    """Every block of the page, in order."""
    return list(_blocks(path.name, path.read_text("utf-8")))


def _blocks(page: str, text: str) -> Iterator[Block]:
    lines = iter(enumerate(text.splitlines(), 1))
    markers: dict[str, str] = {}
    for number, line in lines:
        if marker := _MARKER.match(line):
            markers[marker["name"]] = marker["value"] or ""
            continue
        if fence := _FENCE.match(line):
            indent = fence["indent"]
            body = []
            for _, inner in lines:
                if inner == f"{indent}```":
                    break
                body.append(inner.removeprefix(indent))
            else:
                raise AssertionError(f"{page}:{number}: the block has no end")
            content = "\n".join(body) + "\n"
            yield Block(page, number + 1, fence["language"], content, markers)
        markers = {}
