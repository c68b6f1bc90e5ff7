"""Rules, their violations, and where these are in the template's text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from twolane_local.checks.lint.subject import Subject

    Steps = tuple[str | int, ...]


class Severity(IntEnum):
    """A higher number is worse. SARIF's three levels have the same names."""

    NOTE = 1
    WARNING = 2
    ERROR = 3

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and its check.

    ``summary`` is the requirement, ``source`` the page that documents it. ``needs`` is
    ``template``, ``application`` (its Celery app) or ``journal``.
    """

    id: str
    name: str
    severity: Severity
    summary: str
    source: str
    check: Callable[[Subject], Iterable[Violation]]
    needs: str = "template"

    @property
    def anchor(self) -> str:
        """Its place in ``docs/lint.md``."""
        return f"{self.id.lower()}-{self.name}"


def rule(
    id_: str, name: str, severity: Severity, summary: str, source: str, *, needs: str = "template"
) -> Callable[[Callable[[Subject], Iterable[Violation]]], Rule]:
    """Make a ``Rule`` of the decorated check."""
    return lambda check: Rule(id_, name, severity, summary, source, check, needs)


@dataclass(frozen=True, slots=True)
class Violation:
    """The result of a rule's check.

    ``resource`` is a logical id of the expanded template, ``path`` leads from its ``Properties`` to
    the value. ``severity`` is the rule's own by default. ``file`` and ``line`` are given for a
    violation in the application's code.
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
    """A violation of a rule, with its place in the text."""

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


#: libyaml is ten times as fast, but not in every build of PyYAML.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: SAM's names for properties of a function's event, by CloudFormation's name.
_EVENT_PROPERTIES = {"EventSourceArn": "Queue"}


class TemplateLines:
    """Finds the lines of values, or of the nearest values above them, in a template's text."""

    def __init__(self, path: Path) -> None:
        # Only composed, so that CloudFormation's tags need no constructor; JSON is YAML, too.
        root = yaml.compose(path.read_text("utf-8"), Loader=_LOADER)
        self._lines: dict[Steps, int] = {(): 1}
        self._lines |= dict(_walk(root, ()))
        self._written = [str(steps[1]) for steps in self._lines if _is_resource(steps)]
        self._events = {f"{steps[1]}{steps[4]}": steps for steps in self._lines if _is_event(steps)}

    def of(self, logical_id: str, path: Steps = ()) -> int:
        """Return the line of ``path`` in the properties of a resource of the expanded template.

        Without a resource, ``path`` begins at the template's sections.
        """
        for base, rest in self._candidates(logical_id, path):
            for length in range(len(rest), bool(rest) - 1, -1):
                if (*base, *rest[:length]) in self._lines:
                    return self._lines[*base, *rest[:length]]
        return 1

    def _candidates(self, logical_id: str, path: Steps) -> Iterator[tuple[Steps, Steps]]:
        """Yield the possible places, the most likely first."""
        resource = ("Resources", logical_id)
        if not logical_id or path[:1] == ("Rules",):
            yield (), path
        elif resource in self._lines:
            if path:
                yield (*resource, "Properties"), path
                yield ("Globals", "Function"), path
            yield resource, ()
        elif logical_id in self._events:
            event = self._events[logical_id]
            if path:
                named = _EVENT_PROPERTIES.get(str(path[0]), path[0])
                yield (*event, "Properties"), (named, *path[1:])
            yield event, ()
        elif owner := self._owner(logical_id):
            if logical_id == f"{owner}Role":
                yield ("Resources", owner, "Properties", "Policies"), ()
            yield ("Resources", owner), ()

    def _owner(self, logical_id: str) -> str | None:
        """Return the written resource from which SAM or a nested stack made this one."""
        owners = [name for name in self._written if logical_id.startswith(name)]
        return max(owners, key=len, default=None)


def _is_resource(steps: Steps) -> bool:
    return len(steps) == 2 and steps[0] == "Resources"


def _is_event(steps: Steps) -> bool:
    return len(steps) == 5 and steps[0] == "Resources" and steps[3] == "Events"


def _walk(node: Any, path: Steps) -> Iterator[tuple[Steps, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            yield inner, key.start_mark.line + 1
            yield from _walk(value, inner)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, index), value.start_mark.line + 1
            yield from _walk(value, (*path, index))
