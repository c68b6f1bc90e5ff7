"""Tasks of which something fails once their bodies have ended, on a running `twolane up`."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from tests.twolane.worker.semantics import after_the_body

from .conftest import until, up
from .test_malformed import TEMPLATE

if TYPE_CHECKING:
    from pathlib import Path

SHOP = """
import os
from celery import Celery
from after_the_body import add_tasks
from twolane import WorkerHandler

celery = Celery("shop", broker="sqs://", backend=os.environ["BACKEND"])
celery.conf.update(
    task_default_queue="tasks",
    broker_transport_options={
        "region": "us-east-1", "predefined_queues": {"tasks": {"url": os.environ["QUEUE"]}},
    },
)

def note(name):
    with open(os.environ["EFFECTS"], "a") as out:
        out.write(name + chr(10))

made = add_tasks(celery, note)

@celery.task(name="start", trail=False)
def start():
    for apply in made.values():
        apply()


handler = WorkerHandler(celery)
"""


@pytest.mark.slow
@pytest.mark.parametrize("store", ["redis", "dynamodb"])
def test_each_has_run_once(request: pytest.FixtureRequest, tmp_path: Path, store: str) -> None:
    if store == "redis":
        backend = request.getfixturevalue("redis_url")
    else:
        backend = "dynamodb://@us-east-1/results?ttl_seconds=86400"
    effects = tmp_path / "effects"
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "shop.py").write_text(SHOP)
    shutil.copy(after_the_body.__file__, tmp_path / "src")
    (tmp_path / "template.yaml").write_text(
        TEMPLATE.replace("EFFECTS_FILE", str(effects)).replace("RESULT_BACKEND", backend)
    )
    own = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "XDG_RUNTIME_DIR": ""}
    with up(tmp_path, "--no-reload", cwd=tmp_path, **own) as (_, said):
        sqs = boto3.client(
            "sqs", endpoint_url=said["aws"], region_name="us-east-1",
            aws_access_key_id="testing", aws_secret_access_key="testing",
        )  # fmt: skip
        url = sqs.get_queue_url(QueueName="tasks")["QueueUrl"]
        start = {
            "body": json.dumps([[], {}, {}]), "content-type": "application/json",
            "content-encoding": "utf-8", "headers": {"task": "start", "id": "start"},
            "properties": {"delivery_tag": "start"},
        }  # fmt: skip
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps(start))

        def ran() -> Counter[str]:
            return Counter(effects.read_text().split()) if effects.exists() else Counter()

        def at_rest() -> Any:
            names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
            found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
            # What comes back is hidden for half a minute, and in flight as long.
            return not any(map(int, found.values())) or None

        until(lambda: len(ran()) == len(after_the_body.EXPECTED) or None, "tasks", seconds=60)
        until(at_rest, "empty queue", seconds=20)
        assert ran() == Counter(dict.fromkeys(after_the_body.EXPECTED, 1))
