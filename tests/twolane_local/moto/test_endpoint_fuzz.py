"""Whatever a client sends to the AWS endpoint, it gets an answer of the service's own shape."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from twolane_local.model import Options

from ..running import run  # noqa: TID252
from .endpoint_fuzz import Outcome, judged, report, requests

if TYPE_CHECKING:
    from pathlib import Path

    from twolane_local.emulator import Emulator

TRIES = int(os.environ.get("ENDPOINT_TRIES", "300"))
SEED = int(os.environ.get("ENDPOINT_SEED", "1"))
TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Fn:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: test
      Runtime: python3.11
      Handler: index.handler
      InlineCode: "def handler(event, context): return event"
  Jobs: {Type: AWS::SQS::Queue}
  Files: {Type: AWS::S3::Bucket, Properties: {BucketName: files}}
"""


@pytest.mark.slow
@pytest.mark.timeout(120 + TRIES // 2)
def test_fuzzed_calls_get_answers_of_their_service(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    outcome = Outcome()

    def fuzz(endpoint: str) -> None:
        with ThreadPoolExecutor(4) as threads:
            asked = threads.map(
                lambda sent: judged(sent, endpoint), requests(SEED, TRIES, endpoint)
            )
            for status, wrong in asked:
                outcome.calls += 1
                outcome.statuses[status] = outcome.statuses.get(status, 0) + 1
                outcome.wrong += [wrong] if wrong else []

    async def script(emulator: Emulator) -> None:
        await asyncio.to_thread(fuzz, emulator.aws_url)

    run(Options(tmp_path / "template.yaml", port=0, aws_port=0, http=False), script)
    said = capfd.readouterr().err
    assert "Traceback" not in said, said[-4000:]
    assert not outcome.wrong, report(outcome)
    assert outcome.calls == TRIES
