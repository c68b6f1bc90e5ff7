"""The address of a running emulator's console, in a file that only its user can read."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class NotRunningError(LocalError):
    """No emulator with a console runs; start one with `twolane up`."""


@dataclass(frozen=True, slots=True)
class Running:
    """One emulator's console. ``started_at`` is in seconds since the epoch."""

    pid: int
    url: str
    token: str
    stack: str
    template: str
    started_at: float

    def as_dict(self) -> dict[str, object]:
        return {
            "pid": self.pid, "url": self.url, "token": self.token, "stack": self.stack,
            "template": self.template, "startedAt": self.started_at,
        }  # fmt: skip


def folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the files:
    https://specifications.freedesktop.org/basedir-spec/latest/
    """
    env = os.environ if environ is None else environ
    if env.get("XDG_RUNTIME_DIR"):
        return Path(env["XDG_RUNTIME_DIR"]) / "twolane"
    cache = env.get("XDG_CACHE_HOME") or Path(env.get("HOME") or Path.home()) / ".cache"
    return Path(cache) / "twolane" / "run"


@contextmanager
def announced(running: Running, where: Path) -> Iterator[Path]:
    """Write the file on entry, and remove it on exit."""
    where.mkdir(parents=True, exist_ok=True, mode=0o700)
    where.chmod(0o700)
    path = where / f"{running.pid}.json"
    path.unlink(missing_ok=True)
    # Created with its mode, so that nobody else can read it before a chmod.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump(running.as_dict(), out)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def find(where: Path | None = None) -> list[Running]:
    """Return the running emulators, the latest first; remove files that killed ones left."""
    found = []
    for path in sorted((where or folder()).glob("*.json")):
        try:
            value = json.loads(path.read_text())
            running = Running(
                int(value["pid"]), str(value["url"]), str(value["token"]), str(value["stack"]),
                str(value["template"]), float(value["startedAt"]),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError):
            continue  # half written, or of another version
        if _alive(running.pid):
            found.append(running)
        else:
            path.unlink(missing_ok=True)
    return sorted(found, key=lambda each: each.started_at, reverse=True)


def choose(
    running: Sequence[Running], template: Path | None = None, folder: Path | None = None
) -> Running:
    """The emulator of ``template``, or the only one (in ``folder``). Raises ``NotRunningError``."""
    if not running:
        raise NotRunningError("no emulator with a console runs; start one with `twolane up`")
    wanted = str(template.resolve()) if template is not None else None
    for each in running:
        if each.template == wanted:
            return each
    if folder is not None:
        below = [each for each in running if Path(each.template).is_relative_to(folder.resolve())]
        if len(below) == 1:
            return below[0]
    if len(running) == 1:
        return running[0]
    templates = ", ".join(each.template for each in running)
    raise NotRunningError(
        f"{len(running)} emulators run ({templates}), none with {wanted or 'a template named'}; "
        "choose one with --template"
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
