"""What this machine has: Python, Redis, AWS's runtime client, SAM, free ports."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from typing import TYPE_CHECKING

from twolane_local.doctor.findings import Finding, ok
from twolane_local.errors import PortInUseError
from twolane_local.servers import bind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: Those that Lambda offers and that this is tested with:
#: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html
OLDEST, NEWEST = (3, 11), (3, 13)


def python(version: tuple[int, int] = sys.version_info[:2]) -> Iterator[Finding]:
    name = ".".join(map(str, version))
    if version < OLDEST:
        yield Finding("python", "error", f"this is Python {name}", "use Python 3.11, 3.12 or 3.13")
    elif version > NEWEST:
        yield Finding(
            "python", "warning", f"Python {name} is newer than what Lambda runs and this is "
            "tested with", "use Python 3.11, 3.12 or 3.13",
        )  # fmt: skip
    else:
        yield ok("python", f"Python {name}")


def redis(which: Callable[[str], str | None] = shutil.which) -> Iterator[Finding]:
    found = which("redis-server")
    if found is None:
        yield Finding(
            "redis", "note", "redis-server is not on the PATH: an embedded store in Python stands "
            "in, slower and not quite the same",
            "install it (apt-get install redis-server, brew install redis), or set REDIS_URL",
        )  # fmt: skip
    else:
        yield ok("redis", found)


def runtime_client(
    platform: str = sys.platform,
    has: Callable[[str], object | None] = importlib.util.find_spec,
) -> Iterator[Finding]:
    """``awslambdaric`` has wheels for Linux only; isolated environments need it."""
    if platform != "linux":
        yield Finding(
            "awslambdaric", "warning", f"isolated environments need Linux, and this is {platform}",
            "start with `twolane up --in-process`",
        )  # fmt: skip
    elif has("awslambdaric") is None:
        yield Finding(
            "awslambdaric", "error", "AWS's runtime client is not installed",
            "pip install 'twolane[local]'",
        )  # fmt: skip
    else:
        yield ok("awslambdaric", "AWS's runtime client is installed")


def sam(
    runtimes: Iterable[str], which: Callable[[str], str | None] = shutil.which
) -> Iterator[Finding]:
    """``sam build`` wants the very ``pythonX.Y`` of each runtime, and runs its pip."""
    if which("sam") is None:
        yield Finding(
            "sam", "note", "the SAM CLI is not installed: it deploys; nothing here needs it",
            "https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/"
            "install-sam-cli.html",
        )  # fmt: skip
        return
    missing = sorted({runtime for runtime in runtimes if which(runtime) is None})
    for runtime in missing:
        yield Finding(
            "sam", "warning", f"`sam build` needs {runtime} on the PATH, and there is none",
            f"install {runtime}, or choose a runtime that is here (--parameter Runtime=…)",
        )  # fmt: skip
    if not missing:
        yield ok("sam", "the SAM CLI and the runtimes that it builds for")


def ports(wanted: Iterable[int], *, running: Iterable[str] = ()) -> Iterator[Finding]:
    """``running`` are the addresses of emulators that run: they hold the ports, as they should."""
    emulators = ", ".join(running)
    for port in wanted:
        try:
            bind(port, "--port").close()
        except PortInUseError as error:
            if emulators:
                yield ok("ports", f"{port} is in use; `twolane up` runs ({emulators})")
            else:
                yield Finding(
                    "ports", "warning", str(error).partition(";")[0],
                    f"stop what holds it (`ss -ltnp 'sport = :{port}'`), or start with "
                    "`twolane up --port 0 --aws-port 0`",
                )  # fmt: skip
        else:
            yield ok("ports", f"{port} is free")
