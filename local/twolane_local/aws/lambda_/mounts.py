"""File systems of functions: mounts folders of this machine below ``/mnt``, for one process.

On Linux a process may have mounts that no other process sees: mount_namespaces(7). Without root it
needs a user namespace to mount in: user_namespaces(7).
https://docs.aws.amazon.com/lambda/latest/dg/configuration-filesystem.html

``python mounts.py`` tries to mount, and prints the reason if it cannot.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The variable with the folder of each path, in JSON; removed before the function begins.
VARIABLE = "TWOLANE_FILE_SYSTEMS"
#: Lambda accepts no paths outside of this folder.
ROOT = "/mnt"
#: From linux/mount.h and linux/sched.h.
_BIND, _RECURSIVE, _PRIVATE = 1 << 12, 1 << 14, 1 << 18
_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000


def prevented() -> str:
    """The reason why this machine cannot mount, empty if it can."""
    if sys.platform != "linux":
        return "only Linux has mounts of one process"
    tried = subprocess.run(
        [sys.executable, "-I", "-S", __file__], capture_output=True, text=True, check=False
    )
    return "" if tried.returncode == 0 else tried.stdout.strip() or tried.stderr.strip()[-200:]


def play(text: str | None) -> None:
    """Mount the folders in the text of ``VARIABLE``, for this process and its children.

    The process must have one thread. Raises ``OSError``.
    """
    if text:
        mount(json.loads(text))


def mount(folders: Mapping[str, str]) -> None:
    """Mount each folder at its path; other folders in ``ROOT`` stay visible."""
    _unshare()
    flags = os.O_PATH | os.O_NOFOLLOW
    kept = {one.path: os.open(one.path, flags) for one in os.scandir(ROOT)}
    given = {path: os.open(folder, flags) for path, folder in folders.items()}
    _mount("tmpfs", ROOT, 0, kind="tmpfs")
    for path, descriptor in {**kept, **given}.items():
        opened = f"/proc/self/fd/{descriptor}"
        if os.path.isdir(opened):  # noqa: PTH112 (no more imports in each environment)
            os.makedirs(path, exist_ok=True)  # noqa: PTH103
            _mount(opened, path, _BIND | _RECURSIVE)
        os.close(descriptor)


def _unshare() -> None:
    uid, gid = os.getuid(), os.getgid()
    try:
        _call("unshare", _NEW_MOUNTS)
    except PermissionError:
        _call("unshare", _NEW_MOUNTS | _NEW_USER)
        for name, content in (
            ("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")
        ):  # fmt: skip
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
                file.write(content)
    _mount("none", "/", _PRIVATE | _RECURSIVE)


def _mount(source: str, target: str, flags: int, *, kind: str = "") -> None:
    _call(
        "mount",
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        None,
    )


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


if __name__ == "__main__":
    try:
        mount({f"{ROOT}/twolane": os.path.dirname(__file__)})  # noqa: PTH120
    except OSError as error:
        print(error.strerror)  # noqa: T201 (for ``prevented``)
        sys.exit(1)
