"""Rules and their violations, the lines of these, and both as text, JSON and SARIF."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from twolane_local.checks.lint.subject import Subject

    Steps = tuple[str | int, ...]
    from collections.abc import Sequence


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
    """A rule and its check: ``summary`` is the requirement, ``source`` the page that documents it;
    ``needs`` is ``template``, ``application`` (its Celery app) or ``journal``.
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
    """The result of a rule's check. ``resource`` is a logical id of the expanded template, ``path``
    leads from its ``Properties`` to the value. ``severity`` is the rule's own by default; ``file``
    and ``line`` are those of the application's code.
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
        resources = [steps for steps in self._lines if steps[:1] == ("Resources",)]
        self._written = [str(steps[1]) for steps in resources if len(steps) == 2]
        self._events = {
            f"{steps[1]}{steps[4]}": steps
            for steps in resources
            if len(steps) == 5 and steps[3] == "Events"
        }

    def of(self, logical_id: str, path: Steps = ()) -> int:
        """Return the line of ``path`` in a resource's properties, or in the template."""
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


def as_text(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield two lines for each finding, the second with the fix, and a line with the counts."""
    for finding in findings:
        yield (
            f"{finding.where}: {finding.severity.label} {finding.rule.id} {finding.rule.name}: "
            f"{finding.message}"
        )
        yield f"    {finding.fix}"
    counted = Counter(finding.severity for finding in findings)
    parts = [
        f"{counted[severity]} {severity.label}{'s' if counted[severity] > 1 else ''}"
        for severity in sorted(Severity, reverse=True)
        if counted[severity]
    ]
    yield ", ".join(parts) or "nothing found"


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """``[{"rule", "name", "severity", "path", "line", "resource", "message", "fix", "help"}]``."""
    return [
        {
            "rule": finding.rule.id,
            "name": finding.rule.name,
            "severity": finding.severity.label,
            "path": str(finding.path),
            "line": finding.line,
            "resource": finding.resource,
            "message": finding.message,
            "fix": finding.fix,
            "help": f"docs/lint.md#{finding.rule.anchor}",
        }
        for finding in findings
    ]


def rules_as_text(rules: Sequence[Rule]) -> Iterator[str]:
    """Yield a line for each rule: its severity, what it needs, its summary."""
    width = max(len(rule.name) for rule in rules)
    for rule in rules:
        head = f"{rule.id}  {rule.severity.label:<7}  {rule.needs:<11}  {rule.name:<{width}}"
        yield f"{head}  {rule.summary}"


SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def as_sarif(findings: Sequence[Finding], rules: Sequence[Rule]) -> dict[str, Any]:
    """Return a log with one run; it describes every rule, also those without findings."""
    index = {rule.id: number for number, rule in enumerate(rules)}
    driver = {
        "name": "twolane lint",
        "semanticVersion": version("twolane"),
        "rules": [
            {
                "id": rule.id,
                "name": rule.name,
                "shortDescription": {"text": rule.summary},
                "help": {"text": f"docs/lint.md#{rule.anchor}"},
                "helpUri": rule.source,
                "defaultConfiguration": {"level": rule.severity.label},
            }
            for rule in rules
        ],
    }
    results = [_result(finding, index[finding.rule.id]) for finding in findings]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(finding: Finding, rule_index: int) -> dict[str, Any]:
    place = {
        "artifactLocation": {"uri": _uri(finding.path)},
        "region": {"startLine": finding.line},
    }
    return {
        "ruleId": finding.rule.id,
        "ruleIndex": rule_index,
        "level": finding.severity.label,
        "message": {"text": f"{finding.message}. Fix: {finding.fix}."},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"twolane/v1": _fingerprint(finding)},
    }


def _uri(path: Path) -> str:
    """Return a path relative to the current folder, as code scanning needs it, else absolute."""
    whole = path.resolve()
    current = Path.cwd()
    return (
        whole.relative_to(current).as_posix() if whole.is_relative_to(current) else whole.as_uri()
    )


def _fingerprint(finding: Finding) -> str:
    """Return a hash that stays the same when lines move."""
    text = f"{finding.rule.id}\n{_uri(finding.path)}\n{finding.resource}\n{finding.message}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
