"""The template under AWS's own tools: `sam` from the PATH, or installed apart for these tests.

`sam build` wants exactly the template's `pythonX.Y` on the PATH, with its pip; the running
interpreter is put there.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import marshal
import os
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest

from twolane_local.emulator import Emulator
from twolane_local.model import Options

from ..docs import blocks  # noqa: TID252
from .conftest import ROOT, clean_environ

if TYPE_CHECKING:
    from ..conftest import Emulate  # noqa: TID252

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
FUNCTIONS = {"ApiFunction": "app.api", "WorkerFunction": "app.worker", "BeatFunction": "app.beat"}
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = shutil.which(
        "sam", path=f"{ROOT / '.venv-sam' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    )
    if found:
        return found
    home = tmp_path_factory.mktemp("sam")
    venv.create(home, with_pip=True)
    pinned = ["--no-deps", "--require-hashes", "-r", ROOT / "infra" / "tools" / "sam.txt"]
    subprocess.run([home / "bin" / "pip", "install", "-q", *pinned], check=True)
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


@pytest.fixture(scope="module")
def finished(built: Path) -> Path:
    """The artifact as it ships."""
    artifact = [sys.executable, "-m", "twolane_local.cli", "artifact"]
    run([*artifact, "--python", sys.executable, str(built)])
    return built


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


def test_the_artifact_is_compiled_for_good(finished: Path) -> None:
    sources = list((finished / "ApiFunction" / "twolane").rglob("*.py"))
    assert len(sources) > 50
    for source in sources:
        compiled = Path(importlib.util.cache_from_source(str(source)))
        # PEP 552: hash-based and never checked, since deployment changes the files' times.
        assert compiled.read_bytes()[4:8] == b"\x01\x00\x00\x00"
        # A traceback names the file as it is on Lambda.
        code = marshal.loads(compiled.read_bytes()[16:])
        assert code.co_filename == f"/var/task/{source.relative_to(finished / 'ApiFunction')}"


def test_one_artifact_serves_all_functions(finished: Path) -> None:
    # What `sam deploy` uploads goes by the contents' checksum, so equal folders are one upload.
    trees = [
        {
            path.relative_to(finished / function).as_posix(): path.read_bytes()
            for path in (finished / function).rglob("*")
            if path.is_file()
        }
        for function in FUNCTIONS
    ]
    assert trees[0] == trees[1] == trees[2]
    assert {path.split("/")[0] for path in trees[0]} >= {"app", "twolane", "celery", "fastapi"}
    left_out = ("twolane_local", "tests", "docs", "boto3", "botocore", "prompt_toolkit", "dns")
    assert not [path for path in trees[0] if path.split("/")[0] in left_out]


def test_one_artifact_is_uploaded_and_each_nested_stack(
    sam: str, finished: Path, aws_server: str, tmp_path: Path
) -> None:
    place = {"region_name": "us-east-1", "endpoint_url": aws_server}
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    make: Any = boto3.client
    s3 = make("s3", **place, **keys)
    s3.create_bucket(Bucket="artifacts")
    run(
        [
            sam, "package", "--template-file", str(finished / "template.yaml"),
            "--s3-bucket", "artifacts", "--output-template-file", str(tmp_path / "packaged.yaml"),
        ],
        AWS_ENDPOINT_URL=aws_server, AWS_DEFAULT_REGION="us-east-1",
        AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test",
    )  # fmt: skip
    names = [each["Key"] for each in s3.list_objects_v2(Bucket="artifacts")["Contents"]]
    assert len([name for name in names if name.endswith(".template")]) == 6
    (code,) = [name for name in names if not name.endswith(".template")]
    packaged = (tmp_path / "packaged.yaml").read_text()
    assert packaged.count(f"CodeUri: s3://artifacts/{code}") == len(FUNCTIONS)


@pytest.fixture(scope="module")
def started(sam: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of docs/getting-started.md, as a reader builds it with the released runtime."""
    folder = tmp_path_factory.mktemp("started")
    for block in blocks.read(ROOT / "docs" / "getting-started.md"):
        if place := block.markers.get("file"):
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text.replace("Runtime: python3.13", f"Runtime: {PYTHON}"))
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "wheels")])
    (wheel,) = (folder / "wheels").glob("*.whl")
    required = folder / "hello" / "code" / "requirements.txt"
    assert required.read_text() == "twolane\n"
    required.write_text(f"twolane @ {wheel.as_uri()}\n")
    interpreter = folder / "bin"
    interpreter.mkdir()
    (interpreter / PYTHON).symlink_to(Path(sys.base_prefix) / "bin" / PYTHON)
    built = folder / "hello" / ".aws-sam" / "build"
    run(
        [
            sam, "build", "--template", str(folder / "hello" / "template.yaml"),
            "--build-dir", str(built), "--cache-dir", str(folder / "cache"),
        ],
        PATH=f"{interpreter}{os.pathsep}{os.environ['PATH']}",
    )  # fmt: skip
    artifact = [sys.executable, "-m", "twolane_local.cli", "artifact", "--json", str(built)]
    (folder / "said.json").write_text(run(artifact).stdout)
    return folder


def test_the_first_project_ships_nothing_of_the_emulator(started: Path) -> None:
    built = started / "hello" / ".aws-sam" / "build"
    said = json.loads((started / "said.json").read_text())["functions"]
    assert {Path(one["folder"]).name for one in said} == {"Api", "Worker", "Beat"}
    for one in said:
        assert {"click_repl", "prompt_toolkit", "wcwidth"} <= set(one["left_out"])
        assert one["uncompiled"] == []
        held = {path.name for path in Path(one["folder"]).iterdir()}
        assert {"twolane", "celery", "fastapi", "tasks.py"} <= held
        of_the_emulator = {"twolane_local", "moto", "boto3", "fakeredis", "prompt_toolkit"}
        assert not held & of_the_emulator
        assert not [name for name in held if name.startswith("twolane_local")]
    for function, module in {"Api": "api", "Worker": "worker", "Beat": "beat"}.items():
        code = f"import sys; sys.path.insert(0, sys.argv[1]); import {module} as m; m.handler"
        folder = str(built / function)
        run(
            [sys.executable, "-B", "-I", "-S", "-c", code, folder],
            AWS_REGION="us-east-1", **settings(),
        )  # fmt: skip


#: Put beside the functions as ``sitecustomize``: nothing is imported but from the artifact,
#: Python's own library, and what Lambda's runtime brings.
ALONE = """
import os, sys
from importlib.machinery import PathFinder
PROVIDED = {
    "awslambdaric", "boto3", "botocore", "dateutil", "jmespath", "runtime_client", "s3transfer",
    "simplejson", "six", "snapshot_restore_py", "twolane_local", "urllib3",
}
class Alone:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        python = top in sys.stdlib_module_names or top.startswith("_sysconfigdata")
        if top in PROVIDED or python or path is not None:
            return None
        found = PathFinder.find_spec(name, [os.environ["LAMBDA_TASK_ROOT"]])
        if found is None:
            raise ModuleNotFoundError(f"{name} is not in the artifact", name=name)
        return found
if "LAMBDA_TASK_ROOT" in os.environ:
    sys.meta_path.insert(0, Alone())
"""


@pytest.fixture
def alone(finished: Path, tmp_path: Path) -> Path:
    """A copy of the artifact, and of the template that `sam build` wrote, that runs by itself."""
    copy = tmp_path / "stack"
    shutil.copytree(finished, copy)
    for function in FUNCTIONS:
        (copy / function / "sitecustomize.py").write_text(ALONE)
    return copy


def test_the_stack_runs_from_the_artifact_alone(
    alone: Path, redis_url: str, emulate: Emulate
) -> None:
    parameters = {"RedisUrl": redis_url, "Runtime": PYTHON}
    options = Options(
        alone / "template.yaml", port=0, aws_port=0, parameters=parameters, real_cold_starts=True
    )
    emulate(options, both_lanes_and_the_clock)


async def both_lanes_and_the_clock(emulator: Emulator) -> None:
    folders = {spec.code_dir.name for spec in emulator.stack.functions}
    assert folders == set(FUNCTIONS)
    (url,) = emulator.addresses.apis.values()
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:

        async def ended(answer: httpx.Response) -> dict[str, Any]:
            assert answer.status_code == 202, answer.text
            place = answer.headers["location"]
            for _ in range(8):
                task = (await http.get(place, headers={"Prefer": "wait=5"})).json()
                if task["state"] in {"SUCCESS", "FAILURE"}:
                    break
            return dict(task)

        note = {"email": "user@example.com", "message": "Hello"}
        assert (await http.post("/notify", json=note)).status_code == 200
        sent = await ended(await http.post("/notify/deferred", json=note))
        assert sent["result"]["outcome"] == "sent"
        campaign = {"recipients": ["a@example.com", "b@example.com"], "message": "Hello"}
        report = await ended(await http.post("/campaigns", json=campaign))
        assert report["result"]["sent"] == 2
        event = (ROOT / "events" / "beat-slot.json").read_bytes()
        assert (await emulator.functions.invoke("BeatFunction", event)).error is None
        async with asyncio.timeout(20):
            while not any("inline.succeeded" in event.kind for event in emulator.journal):
                await asyncio.sleep(0.02)


def test_what_the_artifact_lacks_is_missing(alone: Path, own_environ: None, redis_url: str) -> None:
    shutil.rmtree(alone / "WorkerFunction" / "kombu")

    async def main() -> None:
        parameters = {"RedisUrl": redis_url, "Runtime": PYTHON}
        options = Options(
            alone / "template.yaml", port=0, aws_port=0, parameters=parameters,
            real_cold_starts=True,
        )  # fmt: skip
        emulator = Emulator(options)
        await emulator.start()
        await emulator.stop()
        assert any("WorkerFunction" in each and "kombu" in each for each in emulator.problems)

    asyncio.run(main())


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
