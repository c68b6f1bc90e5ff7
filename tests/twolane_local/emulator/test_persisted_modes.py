"""What --persist keeps may hold secrets: only its owner can read it."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import redis

from twolane_local.journal.files import PersistenceError, make_private
from twolane_local.model import Options

from ..running import run  # noqa: TID252

if TYPE_CHECKING:
    from pathlib import Path

    from twolane_local.emulator import Emulator

TEMPLATE = """
Resources:
  Jobs: {Type: AWS::SQS::Queue, Properties: {QueueName: jobs}}
  Files: {Type: AWS::S3::Bucket, Properties: {BucketName: files}}
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: items
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
"""


def others(folder: Path) -> list[str]:
    """What somebody else may read, write or enter."""
    return sorted(
        f"{each.relative_to(folder)} {stat.S_IMODE(each.stat().st_mode):o}"
        for each in (folder, *folder.rglob("*"))
        if stat.S_IMODE(each.stat().st_mode) & 0o077
    )


@pytest.mark.slow
def test_files_and_folders_are_their_owner_s_alone_and_those_of_before_are_mended(
    tmp_path: Path,
) -> None:
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    kept = tmp_path / "new" / "kept"
    options = Options(
        tmp_path / "template.yaml", port=0, aws_port=0, http=False, console=True, persist=kept
    )

    async def script(emulator: Emulator) -> None:
        def client(service: str) -> Any:
            made: Any = boto3.client
            return made(
                service, endpoint_url=emulator.aws_url, region_name="us-east-1",
                aws_access_key_id="local", aws_secret_access_key="local",
            )  # fmt: skip

        def write() -> None:
            client("s3").put_object(Bucket="files", Key="a", Body=b"x")
            client("dynamodb").put_item(TableName="items", Item={"id": {"S": "a"}})
            url = f"{emulator.aws_url}/123456789012/jobs"
            client("sqs").send_message(QueueUrl=url, MessageBody="x")
            store = redis.Redis.from_url(emulator.addresses.store)
            store.set("a", "x")
            store.close()

        await asyncio.to_thread(write)

    def start() -> None:
        before = os.umask(0o022)
        try:
            run(options, script)
        finally:
            os.umask(before)

    start()
    names = {each.name for each in kept.rglob("*")}
    assert {"queues.jsonl", "events.jsonl", "tables.jsonl", "journal.jsonl", "objects"} <= names
    assert others(kept) == []
    for each in (kept, *kept.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)
    start()
    assert others(kept) == []


def test_a_folder_with_other_things_keeps_its_mode_and_they_keep_theirs(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "objects").mkdir(parents=True)
    (folder / "file-systems" / "mine").mkdir(parents=True)
    for name in ("template.yaml", "queues.jsonl", "tables.new", "queues.jsonl.lock", "objects/abc"):
        (folder / name).write_text("")
    (folder / "link.jsonl").symlink_to(folder / "template.yaml")
    for each in (folder, *folder.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)
    make_private(folder)
    assert others(folder) == [
        ". 755", "file-systems/mine 755", "link.jsonl 644", "template.yaml 644"
    ]  # fmt: skip
    (folder / "link.jsonl").unlink()
    (folder / "template.yaml").unlink()
    make_private(folder)
    assert others(folder) == ["file-systems/mine 755"]


def test_a_path_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PersistenceError, match="name a directory of your own"):
        make_private(tmp_path / "file")
