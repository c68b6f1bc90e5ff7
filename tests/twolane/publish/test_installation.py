from __future__ import annotations

from typing import TYPE_CHECKING

from celery import signals
from kombu import Connection
from kombu.transport import TRANSPORT_ALIASES, get_transport_cls

from twolane.publish import install
from twolane.publish.installation import LIGHT
from twolane.publish.transport import Transport

if TYPE_CHECKING:
    from ...conftest import RunPython  # noqa: TID252


def test_sqs_leads_to_the_light_transport_even_if_it_was_resolved_before() -> None:
    TRANSPORT_ALIASES["sqs"] = "kombu.transport.memory:Transport"
    get_transport_cls("sqs")
    install()
    assert TRANSPORT_ALIASES["sqs"] == TRANSPORT_ALIASES["SQS"] == LIGHT
    with Connection("sqs://") as connection:
        assert connection.get_transport_cls() is Transport


def test_installing_twice_is_as_good_as_once() -> None:
    install()
    before = len(signals.before_task_publish.receivers)
    install()
    assert len(signals.before_task_publish.receivers) == before


def test_installing_imports_nothing_that_only_a_publish_needs(run_python: RunPython) -> None:
    program = """
import sys
import celery
from celery.canvas import group
from twolane.publish import install
install()
names = ("twolane.publish.transport", "kombu.transport.virtual", "boto3", "redis", "fastapi")
early = [name for name in names if name in sys.modules]
assert not early, early
"""
    run_python(program)
