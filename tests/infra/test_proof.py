"""The proof that an account gives: its list in the documentation, its checks on the emulator."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROOF = ROOT / "infra" / "proof"
#: What says that something was not seen on AWS.
UNVERIFIED = re.compile(r"\b(?:un|not )verified\b", re.IGNORECASE)


@pytest.fixture(scope="module")
def prove() -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location("twolane_proof", PROOF / "prove.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
        sys.modules.pop("checks", None)
    return module


def test_the_list_of_unverified_statements_is_made_from_the_checks(prove: Any) -> None:
    page = (ROOT / "docs" / "limits.md").read_text()
    listed = page.partition(prove.BEGIN)[2].partition(prove.END)[0].strip()
    assert listed == prove.unverified(prove.CHECKS)


def test_each_check_names_the_nearest_page(prove: Any) -> None:
    names = [check.name for check in prove.CHECKS]
    assert len(set(names)) == len(names)
    for check in prove.CHECKS:
        assert check.page.startswith("https://docs.aws.amazon.com/"), check.name


def test_what_is_called_unverified_names_its_check(prove: Any) -> None:
    names = {check.name for check in prove.CHECKS}
    folders = [ROOT / "handlers", ROOT / "local", ROOT / "docs"]
    files = [
        path for folder in folders for path in folder.rglob("*") if path.suffix in {".py", ".md"}
    ]
    for path in files:
        if path.name == "limits.md":
            continue
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if UNVERIFIED.search(line):
                near = " ".join(lines[max(0, number - 1) : number + 4])
                assert any(f"`{name}`" in near for name in names), (
                    f"{path.name}:{number + 1}: {line}"
                )


def test_an_unknown_check_is_refused_by_name() -> None:
    command = [sys.executable, str(PROOF / "prove.py"), "--emulator", "no-such-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no check is named so" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_emulator_answers_as_the_documentation_says(tmp_path: Path) -> None:
    answers = tmp_path / "answers.json"
    command = [sys.executable, str(PROOF / "prove.py"), "--emulator", "--json", str(answers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(answers.read_text())
    assert {one["name"] for one in said if one["emulator"]["holds"] is False} == set()
    assert all(one["emulator"]["said"] for one in said)


#: In the place of `sam`: builds by copying, makes the stack, and then takes its time to deploy it.
SAM = """
import json, pathlib, shutil, sys, time
import boto3
if sys.argv[1] == "build":
    for name, code in (("ApiFunction", "code"), ("SourceFunction", "source")):
        shutil.copytree(code, pathlib.Path("build") / name)
    shutil.copy("template.yaml", "build/template.yaml")
else:
    name = sys.argv[sys.argv.index("--stack-name") + 1]
    body = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}
    boto3.client("cloudformation").create_stack(StackName=name, TemplateBody=json.dumps(body))
    boto3.client("s3").put_object(Bucket=name, Key="artifact", Body=b"code")
    print("deploying", file=open(PLACE, "w"), flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_what_was_deployed_is_deleted_when_the_run_is_interrupted(
    aws_server: str, tmp_path: Path
) -> None:
    import boto3

    place = tmp_path / "deploying"
    os.mkfifo(place)
    sam = tmp_path / "sam"
    sam.write_text(f"#!{sys.executable}\nPLACE = {str(place)!r}\n{SAM}")
    sam.chmod(0o755)
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    environ = {**os.environ, **keys, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
               "AWS_ENDPOINT_URL": aws_server}  # fmt: skip
    runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"
    command = [
        sys.executable, str(PROOF / "prove.py"), "throttled-http", "--sam", str(sam), "--runtime",
        runtime,
    ]  # fmt: skip
    process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
    told = os.open(place, os.O_RDWR)  # which does not wait for the other side
    ready, _, _ = select.select([told], [], [], 90)
    os.close(told)
    if not ready:
        process.kill()
        pytest.fail(process.communicate()[1])
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    name = re.findall(r"deploying (twolane-proof-[0-9a-f]{8})", said)[0]
    assert f"{name} is gone" in said
    named = {"region_name": "us-east-1", "endpoint_url": aws_server}
    session = boto3.Session("test", "test")
    assert name not in {
        stack["StackName"]
        for stack in session.client("cloudformation", **named).describe_stacks()["Stacks"]
        if stack["StackStatus"] != "DELETE_COMPLETE"
    }
    buckets = session.client("s3", **named).list_buckets()["Buckets"]
    assert name not in {bucket["Name"] for bucket in buckets}
