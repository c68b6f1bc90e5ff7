"""Makes the functions' artifact ready to ship: ``pythonX.Y infra/artifact.py .aws-sam/build``.

`sam build` leaves sources and nothing compiled, and Lambda cannot keep what it compiles: each cold
start would compile every module anew. Run this after it, with the functions' own Python. Tracebacks
name the files as they are on Lambda, and each function's folder comes out the same, byte for byte,
so that `sam deploy` uploads one for all.
"""

from __future__ import annotations

import compileall
import importlib.util
import py_compile
import re
import shutil
import sys
import sysconfig
from pathlib import Path

#: What only Celery's command line imports: a fifth of the artifact, and no function has one.
COMMAND_LINE = ("click_repl", "prompt_toolkit", "wcwidth")
#: Kept, but left uncompiled: nothing that serves an event imports it.
RARELY_IMPORTED = re.compile(r"/(dns|celery/bin|celery/contrib)/")
#: Where Lambda unpacks a function.
TASK_ROOT = "/var/task"


class UnreadyArtifactError(Exception):
    """The folder is not what `sam build` makes for this Python."""


def finish(build: Path) -> list[Path]:
    """Prune and compile each function's folder in ``build``; the folders."""
    folders = sorted(path.parent for path in build.glob("*/twolane"))
    if not folders:
        raise UnreadyArtifactError(f"{build} holds no built function: run `sam build` first")
    for folder in folders:
        _check_python(folder)
        _prune(folder)
        _compile(folder)
    return folders


def _check_python(folder: Path) -> None:
    ours = f"cpython-{sys.version_info.major}{sys.version_info.minor}"
    for extension in folder.rglob("*.cpython-*.so"):
        if ours not in extension.name:
            raise UnreadyArtifactError(
                f"{extension.name} is for another Python than {sysconfig.get_python_version()}, "
                "whose compiled modules Lambda would ignore: run this with the functions' own"
            )


def _prune(folder: Path) -> None:
    for name in COMMAND_LINE:
        shutil.rmtree(folder / name, ignore_errors=True)
        for metadata in folder.glob(f"{name}-*.dist-info"):
            shutil.rmtree(metadata)


def _compile(folder: Path) -> None:
    # Never checked against the sources (PEP 552): deploying changes the files' times.
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    done = compileall.compile_dir(
        folder, quiet=1, force=True, rx=RARELY_IMPORTED,
        stripdir=folder, prependdir=TASK_ROOT, invalidation_mode=mode,
    )  # fmt: skip
    missing = [
        path
        for path in folder.rglob("*.py")
        if not RARELY_IMPORTED.search(str(path))
        and not Path(importlib.util.cache_from_source(str(path))).is_file()
    ]
    if not done or missing:
        raise UnreadyArtifactError(f"could not compile {missing[0] if missing else folder}")


def main() -> int:
    """The exit code: 0, or 2 for a folder that cannot be made ready."""
    if len(sys.argv) != 2:
        print(f"usage: {Path(sys.argv[0]).name} BUILD_DIR", file=sys.stderr)  # noqa: T201
        return 2
    try:
        folders = finish(Path(sys.argv[1]))
    except UnreadyArtifactError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    size = sum(path.stat().st_size for path in folders[0].rglob("*") if path.is_file())
    names = ", ".join(folder.name for folder in folders)
    print(f"compiled {names}: {size / 1e6:.1f} MB each, unzipped")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
