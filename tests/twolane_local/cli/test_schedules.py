"""The command's own parts; against a running emulator it is tried in the whole-way tests."""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
import yaml

from twolane_local.cli import main
from twolane_local.cli import schedules as commands
from twolane_local.cli.flags import template_flags
from twolane_local.errors import HandlerImportError, LocalError, TemplateError

ROOT = Path(__file__).parents[3]
TEMPLATE = """\
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Resources:
  Beat:
    Type: AWS::Serverless::Function
    Properties:
      Handler: {module}.handler
      Runtime: python3.13
      CodeUri: code
      Environment:
        Variables:
          CRON_HOUR: "7"
      Events:
        Tick:
          Type: ScheduleV2
          Properties:
            ScheduleExpression: cron(* * * * ? *)
  Other:
    Type: AWS::Serverless::Function
    Properties:
      Handler: other.handler
      Runtime: python3.13
      CodeUri: code
"""
BEAT = """\
import os
from celery import Celery
from celery.schedules import crontab
from twolane import BeatHandler

celery = Celery("cli", set_as_current=False)
celery.conf.update(
    timezone="Europe/Berlin",
    result_backend="redis://127.0.0.1:1/0",
    beat_schedule={{
        "digest": {{
            "task": "t",
            "schedule": crontab(hour=int(os.environ["CRON_HOUR"]), minute=0),
        }}
    }},
)
handler = {handler}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A template with a beat function; the module's name is its own, as modules are cached."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("CRON_HOUR", "remembered, to be taken back")
    monkeypatch.delenv("CRON_HOUR")
    monkeypatch.chdir(tmp_path)

    def make(module: str, handler: str = "BeatHandler(celery)") -> Path:
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / f"{module}.py").write_text(BEAT.format(handler=handler))
        template = tmp_path / "template.yaml"
        template.write_text(TEMPLATE.format(module=module))
        return template

    return make


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(parents=[template_flags()])
    commands.configure(parser)
    return parser.parse_args(arguments)


def test_one_schedule_for_each_entry_is_written_and_checked(
    project: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    template = project("cli_beat_written")
    assert commands.run(options(str(template), "--check")) == 1
    assert "does not match beat_schedule" in capsys.readouterr().err
    assert commands.run(options(str(template))) == 0
    made = yaml.safe_load(Path("infra/schedules.yaml").read_text())
    properties = made["Resources"]["DigestSchedule"]["Properties"]
    assert properties["ScheduleExpression"] == "cron(0 7 * * ? *)"
    assert properties["ScheduleExpressionTimezone"] == "Europe/Berlin"
    assert commands.run(options(str(template), "--check")) == 0


def test_parameters_are_those_of_the_project(
    project: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    template: Path = project("cli_beat_configured")
    wanted = template.read_text().replace('CRON_HOUR: "7"', "CRON_HOUR: !Ref Hour")
    template.rename("shop.yml").write_text(f"Parameters: {{Hour: {{Type: String}}}}\n{wanted}")
    Path("samconfig.toml").write_text(
        '[default.global.parameters]\ntemplate_file = "shop.yml"\n'
        '[default.deploy.parameters]\nparameter_overrides = "Hour=9"\n'
    )
    assert main(["schedules", "shop.yml"]) == 0
    made = yaml.safe_load(Path("infra/schedules.yaml").read_text())
    cron = made["Resources"]["DigestSchedule"]["Properties"]["ScheduleExpression"]
    assert cron == "cron(0 9 * * ? *)"
    assert main(["schedules", "list", "--endpoint-url", "http://127.0.0.1:9"]) == 2
    assert "Beat cannot be invoked (is `twolane up` running?)" in capsys.readouterr().err


def test_a_handler_that_is_not_beats(project: Any) -> None:
    with pytest.raises(HandlerImportError, match="is a dict, not a BeatHandler"):
        commands.run(options(str(project("cli_beat_dict", handler="{}"))))


def test_a_handler_that_does_not_import(project: Any) -> None:
    with pytest.raises(HandlerImportError, match="NameError"):
        commands.run(options(str(project("cli_beat_broken", handler="undefined"))))


def test_a_function_that_is_not_there(project: Any) -> None:
    with pytest.raises(TemplateError, match="of: Beat, Other"):
        commands.run(options(str(project("cli_beat_unknown")), "--function", "Gone"))


def test_the_repositorys_file_is_what_its_beat_schedule_says() -> None:
    """In a process of its own: the application is imported with the template's environment."""
    code = "import sys; from pathlib import Path; "
    code += "from twolane_local.cli import schedules as commands; "
    code += "sys.stdout.write(commands.export(Path('template.yaml'), {}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (ROOT / "infra/schedules.yaml").read_text() == done.stdout, (
        "run `twolane schedules template.yaml`"
    )


@pytest.mark.slow
def test_the_repositorys_file_is_clean_cloudformation() -> None:
    linter = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run(
        [linter, ROOT / "infra/schedules.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_run_needs_a_name() -> None:
    with pytest.raises(LocalError, match="twolane schedules list"):
        commands.run(options("run", "--function", "Beat"))


def test_no_emulator_to_ask() -> None:
    with pytest.raises(LocalError, match="is `twolane up` running"):
        commands.run(options("list", "--function", "Beat", "--endpoint-url", "http://127.0.0.1:9"))


def test_the_table() -> None:
    listed = [
        {
            "name": "digest",
            "task": "app.tasks.daily_digest",
            "schedule": "crontab: 0 7 * * *",
            "timezone": "Europe/Berlin",
            "missed": "latest",
            "next": ["2026-03-28T06:00:00Z", "2026-03-29T05:00:00Z"],
            "last": "2026-03-27T06:00:00Z",
            "taskId": "id",
        },
        {
            "name": "new",
            "task": "t",
            "schedule": "freq: 1.00 minute",
            "timezone": "UTC",
            "missed": "skip",
            "next": [],
            "last": None,
            "taskId": None,
        },
    ]
    assert commands.entries_table(listed, zone=None, local=UTC) == [
        "digest  (crontab: 0 7 * * *, app.tasks.daily_digest)",
        "  next  Sat 2026-03-28 06:00:00 UTC = Sat 07:00:00 CET",
        "  next  Sun 2026-03-29 05:00:00 UTC = Sun 07:00:00 CEST",
        "  last  Fri 2026-03-27 06:00:00 UTC = Fri 07:00:00 CET  task id",
        "new  (freq: 1.00 minute, t)",
        "  last  never",
    ]
    tokyo = commands.entries_table(listed[:1], zone="Asia/Tokyo", local=UTC)
    assert tokyo[1].endswith("= Sat 15:00:00 JST")
    assert commands.entries_table([], zone=None, local=UTC) == [
        "beat_schedule has no enabled entry"
    ]
