from __future__ import annotations

from typing import TYPE_CHECKING

from ..conftest import shop  # noqa: TID252

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252

TICK = """\
        Tick:
          Type: ScheduleV2
          Properties:
            ScheduleExpression: cron(* * * * ? *)
            Name: !Sub ${AWS::StackName}-tick
"""
NO_TICK = "        Nothing:\n          Type: SNS\n          Properties: {Topic: !Ref Topic}\n"
TOPIC = "  Topic:\n    Type: AWS::SNS::Topic\n  Dead:\n"


def without_tick(project: Project) -> None:
    project.change(TICK, NO_TICK)
    project.change("  Dead:\n", TOPIC)


def test_the_tick_sends_every_entry(project: Project) -> None:
    assert project.found("TL201", applications=shop()) == []


def test_no_schedule_wakes_beat(project: Project) -> None:
    without_tick(project)
    (finding,) = project.found("TL201", applications=shop())
    assert "no schedule sends the beat_schedule entry 'sweep' (shop.tasks.sweep)" in finding.message
    assert finding.resource == "Beat"
    assert "ScheduleExpression: cron(* * * * ? *)" in finding.fix


def test_a_disabled_schedule_wakes_nobody(project: Project) -> None:
    project.change("cron(* * * * ? *)", "cron(* * * * ? *)\n            State: DISABLED")
    assert len(project.found("TL201", applications=shop())) == 1


def test_there_is_no_beat_at_all(project: Project) -> None:
    text = project.template.read_text()
    project.template.write_text(text[: text.index("  Beat:\n")])
    (finding,) = project.found("TL201", applications={"Worker": shop()["Worker"]})
    assert finding.resource == "Worker"
    assert "BeatHandler(celery)" in finding.fix


def test_an_entry_with_a_schedule_of_its_own(project: Project) -> None:
    one = 'rate(1 minute)\n            Input: \'{"twolane": {"entry": "sweep", "slot": "x"}}\''
    project.change("cron(* * * * ? *)", one)
    assert project.found("TL201", applications=shop()) == []
    project.change('"entry": "sweep"', '"entry": "another"')
    assert len(project.found("TL201", applications=shop())) == 1


def test_a_celery_beat_in_a_container_sends_them(project: Project) -> None:
    without_tick(project)
    project.change(
        "  Dead:\n",
        "  Long:\n    Type: AWS::ECS::TaskDefinition\n    Properties:\n"
        "      ContainerDefinitions:\n        - {Name: beat, Image: x, "
        "Command: [celery, -A, shop.tasks, beat]}\n  Dead:\n",
    )
    assert project.found("TL201", applications=shop()) == []
