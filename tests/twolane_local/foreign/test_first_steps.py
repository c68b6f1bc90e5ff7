"""What the first projects of most people do beyond their routes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from tests.twolane_local import running

from twolane_local.aws.lambda_ import mounts
from twolane_local.model import Options

from . import projects
from .calling import TEMPLATES, call

if TYPE_CHECKING:
    import httpx

    from twolane_local.emulator import Emulator


@pytest.mark.slow
def test_cloudformation_says_what_the_stack_is() -> None:
    """As integration tests of SAM's templates ask for it."""

    async def script(emulator: Emulator, http: httpx.AsyncClient) -> None:
        client: Any = boto3.client("cloudformation", endpoint_url=emulator.addresses.aws)

        def ask() -> tuple[dict[str, str], dict[str, tuple[str, str]], str]:
            (stack,) = client.describe_stacks(StackName="local")["Stacks"]
            listed = client.list_stack_resources(StackName="local")["StackResourceSummaries"]
            one = client.describe_stack_resource(StackName="local", LogicalResourceId="Hello")
            return (
                {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]},
                {
                    each["LogicalResourceId"]: (each["ResourceType"], each["PhysicalResourceId"])
                    for each in listed
                },
                one["StackResourceDetail"]["PhysicalResourceId"],
            )

        outputs, resources, hello = await asyncio.to_thread(ask)
        assert outputs == emulator.stack.outputs
        assert (await http.get(f"{outputs['Url']}/hello")).status_code == 200
        assert resources["Hello"] == ("AWS::Lambda::Function", "Hello")
        assert resources["ServerlessRestApiProdStage"] == ("AWS::ApiGateway::Stage", "Prod")
        assert hello == "Hello"

    call("rest_hello", script)


@pytest.mark.slow
def test_file_systems_of_functions(tmp_path: Path) -> None:
    """Two access points lead to one file system, which a function without any does not see."""
    if why := mounts.prevented():
        pytest.skip(why)
    before = sorted(each.name for each in Path("/mnt").iterdir())

    async def script(emulator: Emulator, client: httpx.AsyncClient) -> None:
        assert (await client.get("/a.txt")).json() == {"text": None}
        written = await client.put("/a.txt", content="one", headers={"content-type": "text/plain"})
        assert written.json() == {"mounted": sorted([*before, "books"])}
        assert (await client.get("/a.txt")).json() == {"text": "one"}
        assert (await client.get("/")).json() == before

    call("file_systems", script)
    assert sorted(each.name for each in Path("/mnt").iterdir()) == before

    path = projects.copy("file_systems", tmp_path)

    async def put(emulator: Emulator) -> None:
        await emulator.functions.invoke("Write", b'{"pathParameters":{"name":"b"},"body":"kept"}')

    async def get(emulator: Emulator) -> None:
        outcome = await emulator.functions.invoke("Read", b'{"pathParameters":{"name":"b"}}')
        assert outcome.payload == b'{"text": "kept"}'

    options = Options(path, port=0, aws_port=0, persist=tmp_path / "kept")
    running.run(options, put)
    running.run(options, get)


@pytest.mark.slow
def test_a_file_system_that_cannot_be_mounted_is_named() -> None:
    path = TEMPLATES / "file_systems" / "template.yaml"

    async def script(emulator: Emulator) -> None:
        (note,) = [note for note in emulator.notes if "Write" in note]
        assert note == (
            f"{projects.line_of(path, 'Write')}: Write's file system at /mnt/books is not mounted: "
            "functions run in one process; a folder of that name takes its place"
        )

    running.run(Options(path, port=0, aws_port=0, in_process=True), script)
