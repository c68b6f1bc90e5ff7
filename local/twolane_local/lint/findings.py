"""What a rule is and what it finds: plain frozen facts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from twolane_local.lint.subject import Subject


class Severity(IntEnum):
    """The greater, the worse. SARIF's three levels have the same names."""

    NOTE = 1
    WARNING = 2
    ERROR = 3

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that must hold.

    ``summary`` says what the rule asks for, ``source`` is the page on which that stands. ``needs``:
    ``template``, ``application`` (its Celery app) or ``journal``.
    """

    id: str
    name: str
    severity: Severity
    summary: str
    source: str
    check: Callable[[Subject], Iterable[Found]]
    needs: str = "template"

    @property
    def anchor(self) -> str:
        """Its place in ``docs/lint.md``."""
        return f"{self.id.lower()}-{self.name}"


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule's check yields.

    ``resource`` is a logical id of the expanded template, ``path`` leads from its ``Properties`` to
    the value. ``severity`` is only given where it is not the rule's own. ``file`` and ``line`` are
    of the application's code, where the thing stands there and not in the template.
    """

    resource: str
    message: str
    fix: str
    path: tuple[str | int, ...] = ()
    severity: Severity | None = None
    file: Path | None = None
    line: int = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and where in the text it stands."""

    rule: Rule
    severity: Severity
    resource: str
    message: str
    fix: str
    path: Path
    line: int

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"
