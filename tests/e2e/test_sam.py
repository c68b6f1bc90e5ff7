"""The template under AWS's own tools: `sam` from the PATH, or installed apart for these tests.

`sam build` wants exactly the template's `pythonX.Y` on the PATH, with its pip; the running
interpreter is put there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, clean_environ

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
FUNCTIONS = {"ApiFunction": "app.api", "WorkerFunction": "app.worker", "BeatFunction": "app.beat"}
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = shutil.which("sam")
    if found:
        return found
    home = tmp_path_factory.mktemp("sam")
    venv.create(home, with_pip=True)
    subprocess.run([home / "bin" / "pip", "install", "-q", "aws-sam-cli"], check=True)
    return str(home / "bin" / "sam")


def run(arguments: list[str], **changes: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        arguments, cwd=ROOT, capture_output=True, text=True, check=False,
        env=clean_environ(SAM_CLI_TELEMETRY="0", **changes),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def built(sam: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `sam build` makes for this machine's processor."""
    folder = tmp_path_factory.mktemp("build")
    machine = {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "x86_64")
    interpreter = folder / "bin"
    interpreter.mkdir()
    (interpreter / PYTHON).symlink_to(Path(sys.base_prefix) / "bin" / PYTHON)
    run(
        [
            sam, "build",
            "--build-dir", str(folder / "out"), "--cache-dir", str(folder / "cache"),
            "--parameter-overrides", f"Runtime={PYTHON} Architecture={machine}",
        ],
        PATH=f"{interpreter}{os.pathsep}{os.environ['PATH']}",
    )  # fmt: skip
    return folder / "out"


def test_validate(sam: str) -> None:
    assert "is a valid SAM Template" in run([sam, "validate", "--lint"]).stdout


@pytest.mark.parametrize("function", FUNCTIONS)
def test_artifact_imports_with_nothing_else_on_the_path(built: Path, function: str) -> None:
    # -I: no site-packages of the user, no PYTHONPATH, no current folder; -S: none of this virtual
    # environment's. What Lambda provides besides (boto3) must not be needed to import a handler.
    code = (
        f"import sys; sys.path.insert(0, sys.argv[1]); import {FUNCTIONS[function]} as m; m.handler"
    )
    run([sys.executable, "-B", "-I", "-S", "-c", code, str(built / function)], **settings())


def test_artifact_ships_compiled_as_the_readme_says(built: Path) -> None:
    (line,) = [
        line for line in (ROOT / "README.md").read_text().splitlines() if "compileall" in line
    ]
    arguments = shlex.split(line)[1:-1]
    run([sys.executable, *arguments, str(built)])
    sources = list((built / "ApiFunction" / "twolane").rglob("*.py"))
    assert len(sources) > 50
    for source in sources:
        compiled = Path(importlib.util.cache_from_source(str(source)))
        # PEP 552: hash-based and never checked, since deployment changes the files' times.
        assert compiled.read_bytes()[4:8] == b"\x01\x00\x00\x00"


def test_built_api_answers_an_event(built: Path) -> None:
    assert call(built, "ApiFunction", "api-healthz.json")["body"] == '{"status":"ok"}'
    answer = call(built, "ApiFunction", "api-notify.json")
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"]) == {"message": "Notification will be sent"}


def test_built_worker_runs_tasks(built: Path, redis_url: str) -> None:
    answer = call(
        built, "WorkerFunction", "worker-send-notification.json", RESULT_BACKEND=redis_url
    )
    assert answer == {"batchItemFailures": []}


def call(built: Path, function: str, event: str, **changes: str) -> Any:
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]);"
        f"from {FUNCTIONS[function]} import handler;"
        "out = handler(json.load(open(sys.argv[2])), None); print('=>' + json.dumps(out))"
    )
    arguments = [sys.executable, "-B", "-I", "-S", "-c", code, str(built / function)]
    done = run([*arguments, str(ROOT / "events" / event)], **settings(**changes))
    return json.loads(done.stdout.rpartition("=>")[2])


def settings(**changes: str) -> dict[str, str]:
    queue = "http://127.0.0.1:9/123456789012/tasks"
    return {"TASK_QUEUE_URL": queue, "RESULT_BACKEND": "redis://127.0.0.1:9/0", **changes}
