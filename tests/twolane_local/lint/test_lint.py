"""All rules at once: on our own template, on foreign ones, with exceptions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from twolane_local.checks.lint import check, lint
from twolane_local.checks.lint.findings import Severity
from twolane_local.checks.lint.rules import RULES
from twolane_local.checks.lint.subject import read_subject
from twolane_local.errors import TemplateError

from ..emulator.test_foreign_templates import (  # noqa: TID252
    FIFO,
    HTTP_AND_TABLE,
    MEDIA,
    NOTES,
    NOTIFICATIONS,
    PIPELINE,
)
from .conftest import Project

if TYPE_CHECKING:
    from twolane_local.checks.lint.findings import Finding

ROOT = Path(__file__).parents[3]
POLICY = """\
      RedrivePolicy:
        deadLetterTargetArn: !GetAtt Dead.Arn
        maxReceiveCount: 5"""


def test_our_own_template_breaks_no_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint(Path("template.yaml"), {}) == []


def test_nor_does_it_with_all_that_may_be_nested_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    everything = {
        "WithRedis": "true", "WithLongLane": "true", "WithAlarms": "true", "WithDashboard": "true",
        "SnapStart": "true", "LongLaneImage": "shop:1", "LongTasks": "app.tasks.import_recipients",
    }  # fmt: skip
    assert lint(Path("template.yaml"), everything) == []


def foreign(folder: Path, template: str, module: str, code: str) -> list[Finding]:
    """Check that the raw and the expanded template have the same findings, and return them."""
    (folder / "template.yaml").write_text(template)
    (folder / module).parent.mkdir()
    (folder / module).write_text(code)
    project = Project(folder)
    raw = lint(project.template, {})
    expanded = lint(project.expand(), {})
    assert {(one.rule.id, one.message) for one in raw} == {
        (one.rule.id, one.message) for one in expanded
    }
    return raw


@pytest.mark.parametrize(
    ("template", "module", "code"),
    [
        (HTTP_AND_TABLE, "notes/handlers.py", NOTES),
        (NOTIFICATIONS, "code/media.py", MEDIA),
    ],
    ids=["http-and-table", "notifications"],
)
def test_foreign_templates_raise_no_alarm(
    tmp_path: Path, template: str, module: str, code: str
) -> None:
    assert foreign(tmp_path, template, module, code) == []


def test_a_foreign_fifo_pipeline_raises_no_alarm_but_is_told_what_aws_recommends(
    tmp_path: Path,
) -> None:
    # One second of visibility and two receives are below AWS's recommendations, and may be meant
    # on a FIFO queue: notes, which fail no check.
    found = foreign(tmp_path, FIFO, "code/pipeline.py", PIPELINE)
    assert [(one.rule.id, one.severity) for one in found] == [
        ("TL101", Severity.NOTE),
        ("TL102", Severity.NOTE),
    ]


def test_a_resource_may_be_excepted_with_a_reason(project: Project) -> None:
    project.change("maxReceiveCount: 5", "maxReceiveCount: 4")
    assert len(check(read_subject(project.template, {}))) == 1
    project.change(
        "  Dead:\n",
        "  Dead:\n    Metadata: {twolane: {ignore: {TL102: not this one}}}\n",
    )
    assert len(check(read_subject(project.template, {}))) == 1, "another resource's exception"
    project.change(
        "  Tasks:\n    Type",
        "  Tasks:\n    Metadata: {twolane: {ignore: {TL102: the queue is drained by hand}}}\n"
        "    Type",
    )
    assert check(read_subject(project.template, {})) == []


def test_a_functions_exception_holds_for_what_sam_makes_of_it(project: Project) -> None:
    project.change("Action: s3:GetObject", 'Action: "*"')
    project.change(
        "  Worker:\n",
        "  Worker:\n    Metadata: {twolane: {ignore: {TL107: it is the administrator's}}}\n",
    )
    assert check(read_subject(project.template, {})) == []


def test_a_rule_may_be_left_out(project: Project) -> None:
    project.change("maxReceiveCount: 5", "maxReceiveCount: 4")
    assert check(read_subject(project.template, {}), ignore=["TL102"]) == []


def test_findings_come_in_the_order_of_the_lines(project: Project) -> None:
    project.change("maxReceiveCount: 5", "maxReceiveCount: 4")
    project.change("            FunctionResponseTypes: [ReportBatchItemFailures]\n", "")
    project.change("VisibilityTimeout: 360", "VisibilityTimeout: 59")
    found = check(read_subject(project.template, {}))
    assert [one.rule.id for one in found] == ["TL101", "TL102", "TL103"]
    assert [one.line for one in found] == sorted(one.line for one in found)


def test_a_queue_that_two_functions_read_is_told_of_once(project: Project) -> None:
    text = project.template.read_text()
    worker = text[text.index("  Worker:") : text.index("  Beat:")]
    project.template.write_text(text + worker.replace("  Worker:", "  Another:"))
    project.change("maxReceiveCount: 5", "maxReceiveCount: 4")
    assert [one.rule.id for one in check(read_subject(project.template, {}))] == ["TL102"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (POLICY, "      RedrivePolicy: !ImportValue there"),
        ("[ReportBatchItemFailures]", "!Split [',', !ImportValue there]"),
        ("BatchSize: 10", "BatchSize: !ImportValue there"),
        ("Timeout: 60", "Timeout: !ImportValue there"),
        ("TASK_QUEUE_URL: !Ref Tasks", "TASK_QUEUE_URL: !ImportValue there"),
        ("cron(* * * * ? *)", "!ImportValue there"),
        ("Resource: arn:aws:s3:::receipts/*", "Resource: !ImportValue there"),
        ("deadLetterTargetArn: !GetAtt Dead.Arn", "deadLetterTargetArn: !ImportValue there"),
    ],
)  # fmt: skip
def test_what_another_stack_knows_breaks_nothing(project: Project, old: str, new: str) -> None:
    project.change(old, new)
    assert check(read_subject(project.template, {})) == []


def test_a_resource_without_a_type_is_refused_with_its_line(project: Project) -> None:
    project.change("    Type: AWS::SQS::Queue\n    Properties:\n      VisibilityTimeout",
                   "    Properties:\n      VisibilityTimeout")  # fmt: skip
    with pytest.raises(
        TemplateError, match=rf":{project.line('  Tasks:')}: Tasks is not a resource"
    ):
        read_subject(project.template, {})


def test_rules_have_ids_names_and_pages_of_their_own() -> None:
    for values in (
        [rule.id for rule in RULES],
        [rule.name for rule in RULES],
        [rule.anchor for rule in RULES],
    ):
        assert len(set(values)) == len(RULES)
    for rule in RULES:
        assert re.fullmatch(r"TL\d{3}", rule.id)
        assert rule.needs in {"template", "application", "journal"}
        assert rule.source.startswith("https://")


def test_docs_lint_lists_each_rule_and_no_other() -> None:
    page = (ROOT / "docs" / "lint.md").read_text()
    headings = re.findall(r"^### (TL\d+ .+)$", page, re.MULTILINE)
    assert headings == [f"{rule.id} {rule.name}" for rule in RULES]
    for rule in RULES:
        section = page.split(f"### {rule.id} {rule.name}\n", 1)[1].split("\n### ", 1)[0]
        assert f"*{rule.severity.label}" in section, rule.id
        assert rule.source in section, rule.id
        assert "**Fix:** " in section, rule.id
