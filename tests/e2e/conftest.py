"""Real processes, as the README starts them, and what is asked of them over HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
T = TypeVar("T")
README_API, README_AWS = "http://127.0.0.1:3000", "http://127.0.0.1:4566"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(look: Callable[[], T | None], what: str, *, seconds: float = 30) -> T:
    """Look again and again until there is something to see."""
    deadline = time.monotonic() + seconds
    while (seen := look()) is None:
        assert time.monotonic() < deadline, f"after {seconds} s: no {what}"
        time.sleep(0.05)
    return seen


def clean_environ(**changes: str) -> dict[str, str]:
    """This process's environment without what would point an application somewhere."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "TWOLANE_", "PYTEST_", "REDIS_", "CELERY_"))
    }
    return {**kept, "PYTHONUNBUFFERED": "1", **changes}


@contextmanager
def running(
    arguments: list[str], log: Path, *, cwd: Path = ROOT, **changes: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A child process whose output goes to ``log``; stopped as Ctrl-C stops it."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            arguments, stdout=out, stderr=subprocess.STDOUT, env=clean_environ(**changes), cwd=cwd
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{arguments} did not stop within 15 s of SIGINT") from None


@contextmanager
def up(
    folder: Path, *flags: str, cwd: Path = ROOT, **changes: str
) -> Iterator[tuple[Service, dict[str, Any]]]:
    """`twolane up` on free ports; the service, and all that it says of itself."""
    log = folder / "log"
    command = [str(BIN / "twolane"), "up", "--json", "--port", "0", "--aws-port", "0", *flags]
    with running(command, log, cwd=cwd, **changes) as process:

        def ready() -> dict[str, Any] | None:
            text = log.read_text()
            assert process.poll() is None, text
            lines = [line for line in text.splitlines() if line.startswith('{"')]
            return dict(json.loads(lines[0])) if lines else None

        said = until(ready, "line of JSON")
        yield Service(said["api"], log, said["aws"]), {**said, "pid": process.pid}


def shell(script: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run lines of the README, with this interpreter's environment in the place of `.venv`."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace(".venv/bin", str(BIN))],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
        env=clean_environ(no_proxy="*", **changes),
    )  # fmt: skip


@dataclass(frozen=True)
class Service:
    """The service under test, as its clients see it; ``log`` is what its operator sees."""

    url: str
    log: Path
    aws: str = ""

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        # No proxy of this machine may stand between.
        answer = httpx.get(f"{self.url}{path}", timeout=30, trust_env=False)
        return answer.status_code, answer.json()

    def readme(self, name: str) -> str:
        """Run the README's lines of that name as a shell would; what they print."""
        blocks = readme_blocks()
        script = f"{blocks['functions']}{blocks[name]}"
        for documented, actual in ((README_API, self.url), (README_AWS, self.aws)):
            script = script.replace(documented, actual)
        done = shell(script)
        assert done.returncode == 0, (
            f"{name}: {done.stdout}{done.stderr}\n{self.log_text()[-4000:]}"
        )
        return done.stdout

    def readme_task(self, name: str) -> dict[str, Any]:
        """Run the README's lines of that name; the last task that they show."""
        tasks = [line for line in self.readme(name).splitlines() if line.startswith('{"id"')]
        return dict(json.loads(tasks[-1]))

    def client(self, name: str) -> Any:
        """boto3's client of one of AWS's services, on this machine's endpoint."""
        make: Any = boto3.client
        return make(
            name,
            region_name="us-east-1",
            endpoint_url=self.aws,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def logged(self, text: str, *, seconds: float = 10) -> None:
        """Wait for a line of the log."""
        until(lambda: text in self.log_text() or None, f"{text!r} in {self.log}", seconds=seconds)

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")


def readme_blocks() -> dict[str, str]:
    """The README's tested lines, by name."""
    pattern = r"<!-- tested: ([a-z-]+) -->\n```(?:sh|python)\n(.*?)```"
    return dict(re.findall(pattern, (ROOT / "README.md").read_text(), re.DOTALL))
