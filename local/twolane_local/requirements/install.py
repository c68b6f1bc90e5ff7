"""Installs requirements into folders of our own cache: one for each content and interpreter."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from twolane_local.errors import LocalError
from twolane_local.requirements.names import beside, files
from twolane_local.template.cache import directory

if TYPE_CHECKING:
    from collections.abc import Callable

#: Each is a process that takes a core, and mostly waits for the network.
_AT_ONCE = 4


class InstallError(LocalError):
    """An installation that failed: which, of what, and the tool's last word."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be installed: a requirements file, for an interpreter and its version."""

    file: Path
    python: str
    version: str  # "3.13"


class Installer:
    """``say`` hears of the progress."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._limit = asyncio.Semaphore(_AT_ONCE)

    async def folder(self, wanted: Wanted) -> Path:
        """The folder with it, which is made where it is not there yet; raises ``InstallError``."""
        target = directory() / "packages" / _key(wanted)
        if target.is_dir():
            return target
        async with self._limit:
            await self._install(wanted, target)
        return target

    async def _install(self, wanted: Wanted, target: Path) -> None:
        tool, command = _tool(wanted.python)
        self._say(f"installing {wanted.file} for Python {wanted.version} by {tool} …")
        began = time.monotonic()
        target.parent.mkdir(parents=True, exist_ok=True)
        # Aside and moved, so that what is there is whole.
        aside = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
        try:
            into = aside / "packages"
            options = ["--target", str(into), "--requirement", str(wanted.file)]
            status, last = await _run([*command, *options], wanted.file.parent)
            if status:
                raise InstallError(f"{wanted.file} cannot be installed: {tool}: {last}")
            into.mkdir(exist_ok=True)  # a file that names nothing
            with suppress(OSError):  # another emulator was first
                into.replace(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        self._say(f"installed {wanted.file} in {time.monotonic() - began:.1f} s")


def _tool(python: str) -> tuple[str, list[str]]:
    """uv where there is one, else the interpreter's pip, else one that works for others."""
    uv, pip = shutil.which("uv"), shutil.which("pip")
    if uv:
        return "uv", [uv, "pip", "install", "--python", python]
    options = ["install", "--no-input", "--disable-pip-version-check"]
    if pip and python == sys.executable and find_spec("pip") is None:
        return "pip", [pip, "--python", python, *options]
    return "pip", [python, "-m", "pip", *options]


def _key(wanted: Wanted) -> str:
    found = hashlib.sha256(
        f"{wanted.version} {sys.platform} {platform.machine()} {sys.prefix}".encode()
    )
    for file in files(wanted.file):
        found.update(b"\0" + file.read_bytes())
    for file in beside(wanted.file):
        about = file.stat()
        found.update(f"\0{file} {about.st_mtime_ns} {about.st_size}".encode())
    return f"python{wanted.version}-{found.hexdigest()[:24]}"


async def _run(command: list[str], folder: Path) -> tuple[int, str]:
    """Exit status and last line; ended with us."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return 1, str(error)
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    lines = [line.strip() for line in output.decode(errors="replace").splitlines()]
    lines = [line for line in lines if line] or ["it says nothing"]
    return process.returncode or 0, lines[-1]
