"""The processes of a campaign: `twolane up`, a Redis, a stock publisher; all of them our own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
APPLICATION = HERE / "application"
BIN = Path(sys.executable).parent
QUEUE, DEAD, TABLE = "campaign-tasks", "campaign-dead", "campaign-results"
T = TypeVar("T")


def until(look: Callable[[], T | None], what: str, *, seconds: float = 30) -> T:
    """Look again and again until there is something to see."""
    deadline = time.monotonic() + seconds
    while (seen := look()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds} s: no {what}")
        time.sleep(0.02)
    return seen


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Child:
    """A process as /proc shows it."""

    pid: int
    parent: int
    command: list[str]
    state: str


def processes() -> dict[int, Child]:
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has ended
        pid = int(entry.name)
        found[pid] = Child(pid, int(stat[1]), command, stat[0])
    return found


class System:
    """All of it in one directory. ``store`` is ``redis`` or ``dynamodb``."""

    def __init__(self, directory: Path, store: str, *, max_receives: int) -> None:
        self.directory, self.store, self.max_receives = directory, store, max_receives
        self.port, self.aws_port, self.redis_port = free_port(), free_port(), free_port()
        self.api, self.aws = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.aws_port}"
        self.redis_url = f"redis://127.0.0.1:{self.redis_port}/0"
        self.effects = directory / "effects.jsonl"
        self.console = ""
        self._emulator: subprocess.Popen[bytes] | None = None
        self._redis: subprocess.Popen[bytes] | None = None
        self._token: str | None = None
        self.starts = 0

    # Life.

    def start(self) -> None:
        self.effects.touch()
        if self.store == "redis":
            self.start_redis()
        self.start_emulator()

    def stop(self) -> list[int]:
        """End it; the processes of the emulator's that outlived it."""
        known = self.emulator_family() if self._emulator is not None else []
        if self._emulator is not None and self._emulator.poll() is None:
            self._emulator.send_signal(signal.SIGCONT)
            self._emulator.send_signal(signal.SIGINT)
            try:
                self._emulator.wait(20)
            except subprocess.TimeoutExpired:
                self._emulator.kill()
                self._emulator.wait()
        if self._redis is not None and self._redis.poll() is None:
            self._redis.kill()
            self._redis.wait()
        return self.survivors(known)

    def environ(self, **changes: str) -> dict[str, str]:
        foreign = ("AWS_", "TWOLANE_", "PYTEST_", "REDIS_", "CELERY_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        kept["XDG_CACHE_HOME"] = str(self.directory / "cache")
        return {**kept, "PYTHONUNBUFFERED": "1", "no_proxy": "*", **changes}

    # Redis.

    def start_redis(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise FileNotFoundError("redis-server is not on the PATH; install it")
        folder = self.directory / "redis"
        folder.mkdir(exist_ok=True)
        # Appended to disk before each answer: an acknowledged write survives a kill.
        keep = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        with (self.directory / "redis.log").open("ab") as log:
            self._redis = subprocess.Popen(
                [program, "--port", str(self.redis_port), "--bind", "127.0.0.1",
                 "--dir", str(folder), "--maxmemory-policy", "noeviction", *keep],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        until(lambda: self.answers_redis() or None, "answer of redis-server")

    def answers_redis(self, timeout: float = 1) -> bool:
        try:
            address = ("127.0.0.1", self.redis_port)
            with socket.create_connection(address, timeout=timeout) as client:
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    # The emulator.

    def start_emulator(self) -> None:
        self.starts += 1
        log = self.directory / f"emulator-{self.starts}.log"
        redis = self.redis_url if self.store == "redis" else ""
        parameters = {
            "RedisUrl": redis,
            "EffectsFile": str(self.effects),
            "MaxReceiveCount": str(self.max_receives),
        }
        arguments = [f"{name}={value}" for name, value in parameters.items()]
        command = [
            str(BIN / "twolane"), "up", "--json", "--no-reload", "--verbose",
            "--port", str(self.port), "--aws-port", str(self.aws_port),
            "--template", str(APPLICATION / "template.yaml"),
            "--persist", str(self.directory / "kept"),
            *(["--redis-url", self.redis_url] if redis else []),
            *(each for argument in arguments for each in ("--parameter", argument)),
        ]  # fmt: skip
        with log.open("wb") as out, log.with_suffix(".json").open("wb") as said:
            self._emulator = subprocess.Popen(
                command, stdout=said, stderr=out, env=self.environ(), start_new_session=True,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        emulator = self._emulator

        def ready() -> dict[str, Any] | None:
            if emulator.poll() is not None:
                raise RuntimeError(f"twolane up ended: {log.read_text()[-3000:]}")
            text = log.with_suffix(".json").read_text()
            return dict(json.loads(text)) if text.endswith("\n") else None

        said_there = until(ready, f"line of JSON in {log}", seconds=60)
        self.console, self._token = said_there["console"], None
        if self.store == "dynamodb":
            # The emulator is up before its tables are, which are not to be killed in the making.
            tables = self.client("dynamodb")

            def there() -> bool | None:
                self.alive()
                try:
                    tables.describe_table(TableName=TABLE)
                except Exception:  # noqa: BLE001 - not yet
                    return None
                return True

            until(there, "answer of the tables", seconds=60)

    @property
    def emulator(self) -> subprocess.Popen[bytes]:
        if self._emulator is None:
            raise RuntimeError("the emulator was not started")
        return self._emulator

    def alive(self) -> None:
        """Raises ``RuntimeError`` where the emulator has ended by itself."""
        if self.emulator.poll() is not None:
            log = self.directory / f"emulator-{self.starts}.log"
            last = log.read_text(errors="replace").splitlines()[-1:]
            raise RuntimeError(f"twolane up ended by itself: {''.join(last)}")

    @property
    def redis(self) -> subprocess.Popen[bytes]:
        if self._redis is None:
            raise RuntimeError("there is no Redis of ours")
        return self._redis

    def environments(self, handler: str) -> list[int]:
        """The execution environments of the function with this handler."""
        everything = processes()
        servers = {
            child.pid
            for child in everything.values()
            if child.parent == self.emulator.pid
            and any(part.endswith(".forkserver") for part in child.command)
            and handler in child.command
        }
        return sorted(
            child.pid
            for child in everything.values()
            if child.parent in servers and child.state != "Z"
        )

    def moto(self) -> int | None:
        for child in processes().values():
            if child.parent == self.emulator.pid and any(
                part.endswith("aws.moto.child") for part in child.command
            ):
                return child.pid if child.state != "Z" else None
        return None

    def emulator_family(self) -> list[int]:
        """Every process under the emulator."""
        everything, family = processes(), {self.emulator.pid}
        while (
            grown := {child.pid for child in everything.values() if child.parent in family} - family
        ):
            family |= grown
        return sorted(family - {self.emulator.pid})

    def survivors(self, known: list[int]) -> list[int]:
        """Those of them that are not gone within some seconds."""

        def none() -> bool | None:
            here = processes()
            return True if not any(self._ours(here.get(pid)) for pid in known) else None

        try:
            until(none, "end of the emulator's processes", seconds=10)
        except TimeoutError:
            here = processes()
            return [pid for pid in known if self._ours(here.get(pid))]
        return []

    def _ours(self, child: Child | None) -> bool:
        return (
            child is not None
            and child.state != "Z"
            and any("twolane_local" in part for part in child.command)
        )

    # Asking.

    def client(self, name: str) -> Any:
        import boto3
        from botocore.config import Config

        make: Any = boto3.session.Session().client
        return make(
            name, region_name="us-east-1", endpoint_url=self.aws,
            aws_access_key_id="testing", aws_secret_access_key="testing",
            config=Config(connect_timeout=2, read_timeout=20, retries={"total_max_attempts": 1}),
        )  # fmt: skip

    def queue_url(self, name: str) -> str:
        return f"{self.aws}/123456789012/{name}"

    def post(self, path: str, body: Any, *, timeout: float = 25) -> int:
        """To the API; its status, or 0 where nobody answered."""
        return _post(f"{self.api}{path}", body, {}, timeout)

    def inject(self, name: str, **parameters: Any) -> int:
        """Arm one of the emulator's own faults, as its console does."""
        if self._token is None:
            with _open(urllib.request.Request(self.console), 10) as answer:
                page = answer.read().decode()
            found = re.search(r'name="twolane-token" content="([^"]+)"', page)
            if found is None:
                raise RuntimeError("the console's page has no token")
            self._token = found[1]
        headers = {"x-twolane-token": self._token}
        url = f"{self.console.rstrip('/')}/api/faults"
        return _post(url, {"name": name, "parameters": parameters}, headers, 10)


def _open(request: urllib.request.Request, timeout: float) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(request, timeout=timeout)


def _post(url: str, body: Any, headers: dict[str, str], timeout: float) -> int:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"content-type": "application/json", **headers}
    )
    try:
        with _open(request, timeout) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, EOFError):
        return 0
    except Exception as error:
        if type(error).__module__ == "http.client":
            return 0
        raise


class Publisher:
    """The stock publisher: one unit at a time."""

    def __init__(self, system: System) -> None:
        backend = system.redis_url
        if system.store == "dynamodb":
            backend = f"dynamodb://@us-east-1/{TABLE}?ttl_seconds=86400"
        self._lock = threading.Lock()
        with (system.directory / "publisher.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / "publisher.py"), str(APPLICATION / "src")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                env=system.environ(
                    TASK_QUEUE_URL=system.queue_url(QUEUE),
                    RESULT_BACKEND=backend,
                    EFFECTS_FILE=str(system.effects),
                    AWS_ENDPOINT_URL=system.aws,
                    AWS_DEFAULT_REGION="us-east-1",
                    AWS_ACCESS_KEY_ID="testing",
                    AWS_SECRET_ACCESS_KEY="testing",
                ),
            )  # fmt: skip

    def send(self, unit: dict[str, Any]) -> tuple[bool, str]:
        with self._lock:
            source, target = self._process.stdin, self._process.stdout
            if source is None or target is None:
                raise RuntimeError("the publisher has no pipes")
            source.write(json.dumps(unit) + "\n")
            source.flush()
            line = target.readline()
        if not line:
            raise RuntimeError("the stock publisher ended; see publisher.log")
        answer = json.loads(line)
        return bool(answer["sent"]), str(answer.get("error", ""))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
