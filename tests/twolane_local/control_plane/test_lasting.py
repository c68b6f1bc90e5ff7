"""What the API makes outlives a reload of the template and, with ``--persist``, the process."""

from __future__ import annotations

import stat
import sys
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import TEMPLATE, Running, archive, function
from .test_functions import invoked, refused, settled
from .test_settings import eventually, fetched

if TYPE_CHECKING:
    from pathlib import Path

QUICK = {"warm": False, "reload": True}


def make(aws: Any) -> str:
    """A function with all that belongs to it; returns the address of its URL."""
    aws.create_function(**function("lasting", Publish=True, Tags={"a": "b"}))
    settled(aws, "lasting")
    aws.update_function_code(FunctionName="lasting", ZipFile=archive(2))
    aws.create_alias(FunctionName="lasting", Name="live", FunctionVersion="1")
    aws.put_function_concurrency(FunctionName="lasting", ReservedConcurrentExecutions=5)
    return str(
        aws.create_function_url_config(FunctionName="lasting", AuthType="NONE")["FunctionUrl"]
    )


def check(aws: Any, url: str) -> None:
    assert invoked(aws, "lasting")["release"] == 2
    assert invoked(aws, "lasting", Qualifier="live")["release"] == 1
    shown = aws.get_function(FunctionName="lasting")
    assert shown["Tags"] == {"a": "b"}
    assert shown["Concurrency"] == {"ReservedConcurrentExecutions": 5}
    assert aws.get_function_url_config(FunctionName="lasting")["FunctionUrl"] == url
    assert fetched(url)[0]["release"] == 2


def test_it_outlives_the_process(tmp_path: Path) -> None:
    persist = tmp_path / "kept"
    first = Running(tmp_path, persist, warm=False)
    try:
        aws = first.client("lambda")
        url = make(aws)
        aws.update_function_configuration(FunctionName="Greeter", Timeout=11)
    finally:
        first.close()
    kept = [persist / "changes.jsonl", *(persist / "lambda").iterdir()]
    assert len(kept) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in kept} == {0o600}
    assert stat.S_IMODE((persist / "lambda").stat().st_mode) == 0o700
    second = Running(tmp_path, persist, warm=False)
    try:
        aws = second.client("lambda")
        check(aws, url)
        assert aws.get_function_configuration(FunctionName="Greeter")["Timeout"] == 11
        aws.delete_function(FunctionName="lasting")
    finally:
        second.close()
    third = Running(tmp_path, persist, warm=False)
    try:
        aws = third.client("lambda")
        assert [each["FunctionName"] for each in aws.list_functions()["Functions"]] == ["Greeter"]
        assert list((persist / "lambda").iterdir()) == []
    finally:
        third.close()


def test_functions_of_the_api_are_isolated_beside_those_in_the_process(tmp_path: Path) -> None:
    running = Running(tmp_path, in_process=True)
    try:
        aws = running.client("lambda")
        for name in ("one", "two"):  # both, and the template's function, have a module `index`
            aws.create_function(**{**function(name), "Code": {"ZipFile": archive(len(name))}})
        assert invoked(aws, "Greeter") == {"version": "$LATEST"}
        assert invoked(aws, "one")["release"] == 3
        settled(aws, "two")
        aws.update_function_code(FunctionName="two", ZipFile=archive(7))
        assert invoked(aws, "two")["release"] == 7
    finally:
        running.close()
        sys.modules.pop("index", None)  # of the function in this process


@pytest.mark.slow
def test_it_outlives_a_reload_until_the_template_says_otherwise(tmp_path: Path) -> None:
    running = Running(tmp_path, **QUICK)
    template = tmp_path / "template.yaml"
    try:
        aws = running.client("lambda")
        url = make(aws)
        aws.update_function_configuration(FunctionName="Greeter", MemorySize=256)
        aws.create_alias(FunctionName="Greeter", Name="mine", FunctionVersion="1")

        def greeter() -> tuple[int, int]:
            shown = aws.get_function_configuration(FunctionName="Greeter")
            return shown["Timeout"], shown["MemorySize"]

        template.write_text(TEMPLATE + "  More:\n    Type: AWS::SQS::Queue\n")
        sqs = running.client("sqs")
        eventually(lambda: len(sqs.list_queues().get("QueueUrls", [])) == 2)
        check(aws, url)
        assert greeter() == (7, 256)  # another resource has changed
        template.write_text(TEMPLATE.replace("Timeout: 7", "Timeout: 8"))
        eventually(lambda: greeter() == (8, 128))
        check(aws, url)
        assert aws.get_alias(FunctionName="Greeter", Name="mine")["FunctionVersion"] == "1"
        settled(aws, "Greeter")
        aws.delete_function(FunctionName="Greeter")
        assert refused(aws.get_function, FunctionName="Greeter")[0] == "ResourceNotFoundException"
        template.write_text(TEMPLATE.replace("Timeout: 7", "Timeout: 9"))
        eventually(lambda: "Greeter" in running.emulator.functions.specs)
        assert greeter() == (9, 128)
        assert invoked(aws, "Greeter", Qualifier="live") == {"version": "$LATEST"}
    finally:
        running.close()
