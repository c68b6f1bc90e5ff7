"""The two distributions: what each holds, what it asks for, and what one says without the other."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.request
import venv
import zipfile
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"twolane": ROOT, "twolane_local": ROOT / "local"}
SOURCES = {"twolane": ROOT / "handlers", "twolane_local": ROOT / "local"}


def project(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return read


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, zipfile.ZipFile]:
    """Both, built as a release builds them: each wheel from the source distribution."""
    found = {}
    for name, folder in FOLDERS.items():
        out = tmp_path_factory.mktemp(name)
        build = [sys.executable, "-m", "hatchling", "build"]
        subprocess.run([*build, "-t", "sdist", "-d", out], cwd=folder, check=True)
        (sdist,) = out.glob("*.tar.gz")
        subprocess.run(["tar", "-xzf", sdist, "-C", out], check=True)
        unpacked = sdist.with_name(sdist.name.removesuffix(".tar.gz"))
        subprocess.run([*build, "-t", "wheel", "-d", out], cwd=unpacked, check=True)
        (wheel,) = out.glob("*.whl")
        found[name] = zipfile.ZipFile(wheel)
    return found


@pytest.mark.parametrize("name", FOLDERS)
def test_a_wheel_holds_its_own_files_alone(name: str, wheels: dict[str, zipfile.ZipFile]) -> None:
    version = project(FOLDERS[name])["version"]
    info = f"{name}-{version}.dist-info"
    held = {each for each in wheels[name].namelist() if not each.startswith(f"{info}/")}
    assert held == {
        path.relative_to(SOURCES[name]).as_posix()
        for path in (SOURCES[name] / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert f"{info}/licenses/LICENSE" in wheels[name].namelist()


def entry_points(wheel: zipfile.ZipFile) -> ConfigParser:
    (name,) = [each for each in wheel.namelist() if each.endswith("/entry_points.txt")]
    parser = ConfigParser()
    parser.read_string(wheel.read(name).decode())
    return parser


def test_neither_owns_a_script_of_the_other(wheels: dict[str, zipfile.ZipFile]) -> None:
    runtime, local = (entry_points(wheels[name]) for name in FOLDERS)
    assert dict(runtime["console_scripts"]) == {"twolane": "twolane.__main__:main"}
    assert dict(local["console_scripts"]) == {"twolane-local": "twolane_local.cli:main"}
    assert not runtime.has_section("pytest11")
    assert dict(local["pytest11"]) == {"twolane": "twolane_local.pytest_plugin"}


def test_the_two_are_released_together() -> None:
    runtime, local = (project(folder) for folder in FOLDERS.values())
    assert runtime["version"] == local["version"]
    assert f"twolane=={runtime['version']}" in local["dependencies"]
    assert runtime["requires-python"] == local["requires-python"]
    assert (ROOT / "LICENSE").read_text() == (ROOT / "local" / "LICENSE").read_text()


def test_the_runtime_asks_for_nothing_of_the_emulators() -> None:
    runtime = project(ROOT)
    extras = runtime["optional-dependencies"]
    assert set(extras) == {"otel", "wsgi"}
    everything = [*runtime["dependencies"], *extras["otel"], *extras["wsgi"]]
    assert not [one for one in everything if one.startswith(("moto", "boto", "pytest", "twolane"))]


@pytest.fixture
def bare(tmp_path: Path, wheels: dict[str, zipfile.ZipFile]) -> Path:
    """An interpreter that has the runtime's wheel, and nothing else."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    wheels["twolane"].extractall(packages)
    return tmp_path / "venv" / "bin" / "python"


def ask(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [python, "-W", "error", "-m", "twolane", *arguments]
    return subprocess.run(command, cwd=python.parent, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [("up",), ("up", "--port", "0"), ("--help",), ()])
def test_the_runtime_alone_says_what_to_install(bare: Path, arguments: tuple[str, ...]) -> None:
    done = ask(bare, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    command = " ".join(["twolane", *arguments[:1]])
    assert line.startswith(f"! `{command}` is a command of twolane-local, which is not installed")
    assert f"{bare} -m pip install twolane-local=={project(ROOT)['version']}" in line


def test_the_runtime_alone_says_its_version(bare: Path) -> None:
    done = ask(bare, "--version")
    assert (done.returncode, done.stdout) == (0, f"twolane {project(ROOT)['version']}\n")


def test_with_the_local_layer_the_script_is_the_commands() -> None:
    command = [sys.executable, "-m", "twolane", "lint", "--no-such-flag"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "twolane: error: unrecognized arguments: --no-such-flag" in done.stderr


def test_no_handler_imports_the_command() -> None:
    code = "import sys, app.worker, app.beat, app.api; print('twolane.__main__' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={
            "PYTHONPATH": str(ROOT / "handlers"), "AWS_REGION": "us-east-1",
            "TASK_QUEUE_URL": "http://127.0.0.1:9/123456789012/tasks",
            "RESULT_BACKEND": "redis://127.0.0.1:9/0",
        },
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "False"


#: What the emulator did ask for, and asks for no more.
HEAVY = {
    "antlr4", "cfnlint", "docker", "flask", "graphql", "jinja2", "networkx", "pycurl", "pytest",
    "openapi_spec_validator", "regex", "sympy", "uvloop",
}  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, zipfile.ZipFile]) -> Path:
    """A fresh environment with what `make up` installs of the two wheels; its scripts' folder."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=True, symlinks=True)
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    subprocess.run(
        [
            folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile",
            *(str(wheel.filename) for wheel in wheels.values()), *groups["app"],
        ],
        check=True,
    )  # fmt: skip
    return folder / "bin"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The demonstration without the sources of twolane: those are the wheels'."""
    shutil.copy(ROOT / "template.yaml", tmp_path)
    shutil.copytree(ROOT / "infra", tmp_path / "infra")
    shutil.copytree(ROOT / "handlers" / "app", tmp_path / "handlers" / "app")
    shutil.copy(ROOT / "handlers" / "requirements.txt", tmp_path / "handlers")
    return tmp_path


def environ(installed: Path, home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("LANG", "HOME") if name in os.environ}
    path = f"{installed}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "XDG_RUNTIME_DIR": str(home), "XDG_CACHE_HOME": str(home)}


def call(url: str, body: object = None) -> dict[str, str]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        read: dict[str, str] = json.load(answer)
    return read


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_light_install_is_light_and_whole(installed: Path) -> None:
    (packages,) = installed.parent.glob("lib/python*/site-packages")
    assert not {path.name for path in packages.iterdir()} & HEAVY
    distributions = list(packages.glob("*.dist-info"))
    assert len(distributions) <= 68
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
    assert size < 130e6
    checked = subprocess.run(
        [installed / "python", "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_light_install_runs_both_lanes(installed: Path, checkout: Path) -> None:
    with subprocess.Popen(
        [installed / "twolane", "up", "--json", "--quiet", "--port", "0", "--aws-port", "0"],
        cwd=checkout, env=environ(installed, checkout), stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            api = json.loads(process.stdout.readline())["api"]
            assert call(f"{api}/healthz") == {"status": "ok"}
            note = {"email": "user@example.com", "message": "Hello"}
            place = f"{api}/tasks/{call(f'{api}/notify/deferred', note)['id']}"
            request = urllib.request.Request(place, headers={"Prefer": "wait=60"})
            with urllib.request.urlopen(request, timeout=90) as answer:
                assert json.load(answer)["state"] == "SUCCESS"
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["lint"], "nothing found"),
        (["doctor"], "all requirements are installed"),
        (["template"], '"AWS::Lambda::Function"'),
        (["simulate", "--runs", "5"], "all invariants hold"),
        (["completion", "bash"], "pip install 'twolane-local[completion]'"),
        (["artifact"], "run `sam build` first"),
    ],
)
def test_the_light_install_has_each_command(
    installed: Path, checkout: Path, command: list[str], said: str
) -> None:
    done = subprocess.run(
        [installed / "twolane", *command], cwd=checkout, env=environ(installed, checkout),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
