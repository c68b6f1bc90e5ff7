"""One emulator for all modules of this folder, with a small template, on a thread."""

from __future__ import annotations

import asyncio
import io
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from twolane_local.emulator import Emulator
from twolane_local.model import Options

from .shapes import Checked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROLE = "arn:aws:iam::123456789012:role/worker"
TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Greeter:
    Type: AWS::Serverless::Function
    Properties:
      Handler: index.handler
      Runtime: python3.11
      AutoPublishAlias: live
      Timeout: 7
      FunctionUrlConfig:
        AuthType: NONE
      Tags:
        team: a
      InlineCode: |
        def handler(event, context):
            return {"version": context.function_version}
  Tasks:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: tasks
"""
CODE = """
import os

def handler(event, context):
    if event.get("fail"):
        raise ValueError("as it was told")
    return {
        "release": RELEASE, "mood": os.environ.get("MOOD"), "version": context.function_version,
        "arn": context.invoked_function_arn, "event": event,
    }
"""


def archive(release: int = 1, code: str = CODE) -> bytes:
    """A deployment package."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as written:
        written.writestr(zipfile.ZipInfo("index.py"), f"RELEASE = {release}\n{code}")
    return out.getvalue()


def function(name: str, **more: Any) -> dict[str, Any]:
    """The parameters of CreateFunction."""
    return {
        "FunctionName": name, "Runtime": "python3.11", "Role": ROLE, "Handler": "index.handler",
        "Code": {"ZipFile": archive()}, **more,
    }  # fmt: skip


class Running:
    """An emulator on a thread of its own."""

    def __init__(self, folder: Path, persist: Path | None = None, **options: Any) -> None:
        template = folder / "template.yaml"
        if not template.exists():
            template.write_text(TEMPLATE)
        self._options = Options(template, port=0, aws_port=0, persist=persist, **options)
        self._started = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        assert self._started.wait(60)
        if self._failed is not None:
            raise self._failed

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.emulator = Emulator(self._options)
        try:
            await self.emulator.start()
        except BaseException as error:
            self._failed = error
            raise
        finally:
            self._started.set()
        await self._stop.wait()
        await self.emulator.stop()

    def client(self, service: str, **options: Any) -> Any:
        return boto3.client(
            service, endpoint_url=self.emulator.aws_url, region_name="us-east-1",
            aws_access_key_id="local", aws_secret_access_key="local",
            config=Config(retries={"max_attempts": 1}, read_timeout=60, **options),
        )  # fmt: skip

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("control-plane"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def checked() -> Checked:
    return Checked()


@pytest.fixture(scope="session")
def aws(running: Running, checked: Checked) -> Any:
    """Lambda's client; each of its answers is compared with its documented shape."""
    return checked.watch(running.client("lambda"))
