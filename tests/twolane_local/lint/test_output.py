from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.checks.lint import check
from twolane_local.checks.lint import findings as output
from twolane_local.checks.lint.rules import RULES
from twolane_local.checks.lint.subject import read_subject

if TYPE_CHECKING:
    from .conftest import Project


def test_for_a_person(project: Project) -> None:
    project.change("maxReceiveCount: 5", "maxReceiveCount: 4")
    project.change("VisibilityTimeout: 360", "VisibilityTimeout: 59")
    lines = list(output.as_text(check(read_subject(project.template, {}))))
    where = f"{project.template}:{project.line('VisibilityTimeout')}"
    assert lines[0].startswith(f"{where}: error TL101 visibility-timeout: Tasks shows a message")
    assert lines[1].startswith("    set VisibilityTimeout: 360")
    assert lines[-1] == "1 error, 1 warning"


def test_nothing_found_is_said() -> None:
    assert list(output.as_text([])) == ["nothing found"]


def test_as_json(project: Project) -> None:
    project.change("maxReceiveCount: 5", "maxReceiveCount: 4")
    (one,) = output.as_json(check(read_subject(project.template, {})))
    assert one.pop("message").startswith("Tasks sends")
    assert one == {
        "rule": "TL102",
        "name": "receive-count",
        "severity": "warning",
        "path": str(project.template),
        "line": project.line("maxReceiveCount"),
        "resource": "Tasks",
        "fix": "set maxReceiveCount: 5 or more",
        "help": "docs/lint.md#tl102-receive-count",
    }


def test_every_rule_is_listed() -> None:
    words = [line.split() for line in output.rules_as_text(RULES)]
    assert [line[:4] for line in words] == [
        [rule.id, rule.severity.label, rule.needs, rule.name] for rule in RULES
    ]
