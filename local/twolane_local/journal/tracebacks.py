"""Tracebacks that begin in the application's code.

Between an application's frames stand those of what calls it: Celery, Starlette, FastAPI, AnyIO,
twolane itself and the like. ``fold`` leaves them out, and says how many there were. The last frame
of each traceback stays, of whatever package: there it was raised. Everything that keeps a traceback
keeps the whole of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The packages whose frames fold.
FRAMEWORKS = ("a2wsgi", "anyio", "asgiref", "awslambdaric", "billiard", "celery", "fastapi",
              "kombu", "mangum", "starlette", "twolane", "twolane_local", "uvicorn",
              "vine")  # fmt: skip
#: Modules of the standard library that call others' code; they fold beside frames that do.
_CALLERS = ("asyncio", "concurrent", "contextlib", "contextvars", "functools", "importlib", "runpy",
            "threading")  # fmt: skip

#: The first line of a traceback.
START = "Traceback (most recent call last):"
#: A frame's first line. The runtime client indents by no-break spaces; an exception group's frames
#: stand behind a bar.
_FRAME = re.compile(r'^(?P<margin>[ \u00a0|]*)File "(?P<file>[^"]+)", line \d+')
#: Where packages are: in an environment, in Lambda's folders (beside the function's own code), and
#: in twolane's own checkout.
_PACKAGE = re.compile(
    r"(?:/(?:site|dist)-packages|^/var/task|^/opt/python(?:/lib/python3\.\d+/site-packages)?"
    r"|/handlers|/local)/(\w+)(?:/|\.py$)"
)
_STANDARD = re.compile(r"(?:/lib/python3\.\d+|/Lib)/(\w+)(?:/|\.py$)|^<frozen (\w+)")


class _Frame(NamedTuple):
    lines: list[str]
    #: The package of a frame that folds, a standard module in brackets, or an empty text.
    package: str


def split(text: str) -> tuple[str, str]:
    """Return the text before a traceback, and the rest, which begins with it."""
    before, start, rest = text.partition(START)
    if start and (group := re.search(r"\s*\+ Exception Group $", before)):  # its header's beginning
        before, start = before[: group.start()], group[0].lstrip("\n") + start
    return before.rstrip("\n"), start + rest


def brief(text: str) -> str:
    """Return an error's text in one line: of a traceback in it, the error's own line only."""
    before, trace = split(text)
    return " ".join(f"{before} {trace.rstrip().rpartition(chr(10))[2]}".split())


def fold(text: str) -> str:
    """Return the text with the frames of frameworks folded, in each traceback in it."""
    if START not in text:
        return text
    folded: list[str] = []
    frames: list[_Frame] = []
    for line in text.split("\n"):
        found = _FRAME.match(line)
        if found is not None:
            frames.append(_Frame([line], _package_of(found["file"])))
        elif frames and _belongs(line, frames[-1].lines[0]):
            frames[-1].lines.append(line)
        else:
            folded += _without(frames)
            frames = []
            folded.append(line)
    folded += _without(frames)
    return "\n".join(folded)


def _belongs(line: str, first: str) -> bool:
    """Return whether a line is the source below a frame's first line: it is indented deeper, or as
    deep as ``[Previous line repeated …]``.
    """
    margin = len(first) - len(first.lstrip(" \u00a0|"))
    inner = line[margin:]
    return line[:margin].strip(" \u00a0|") == "" and (
        inner.startswith((" ", "\u00a0", "[Previous line repeated")) and bool(inner.strip())
    )


def _package_of(file: str) -> str:
    packages = [found[1] for found in _PACKAGE.finditer(file)]
    if packages:
        return next((name for name in packages if name in FRAMEWORKS), "")
    standard = _STANDARD.search(file)
    name = (standard[1] or standard[2]) if standard is not None else ""
    return f"({name})" if name in _CALLERS else ""


def _without(frames: list[_Frame]) -> Iterator[str]:
    """Yield the lines of one traceback's frames, each run of foldable ones as one line."""
    run: list[_Frame] = []
    for index, frame in enumerate(frames):
        if frame.package and index < len(frames) - 1:
            run.append(frame)
            continue
        yield from _folded(run, first=index == len(run))
        run = []
        yield from frame.lines
    yield from _folded(run)


def _folded(run: list[_Frame], *, first: bool = False) -> Iterator[str]:
    """Yield one line for a run of frames; ``first``: they are the first ones of their traceback."""
    names = list(dict.fromkeys(frame.package for frame in run if not frame.package.startswith("(")))
    if first and not names:  # an import of the application's module
        names = list(dict.fromkeys(frame.package.strip("()") for frame in run))
    if not names:  # the standard library's alone say what the application does
        for frame in run:
            yield from frame.lines
        return
    found = _FRAME.match(run[0].lines[0])
    margin = found["margin"] if found is not None else "  "
    some = "1 frame" if len(run) == 1 else f"{len(run)} frames"
    yield f"{margin}… {some} of {', '.join(names)}"
