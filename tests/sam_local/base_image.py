"""Make the base image that ``sam local`` expects, from what is on this machine, with no registry.

A minimal root: this Python with ``awslambdaric`` in it, the C library's files that it is linked to,
a shell and the three commands that sam's own image build runs. It goes to ``docker import``, under
the name of AWS's image, so that ``sam local … --skip-pull-image`` finds it.
https://docs.aws.amazon.com/lambda/latest/dg/python-image.html#python-image-clients

    python base_image.py 3.11 x86_64
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What sam's Dockerfile runs, and what a person wants who looks into the container.
COMMANDS = ("sh", "mv", "chmod", "cp", "rm", "ls", "cat")
#: Lambda's own start, and what its runtime client stands on.
RUNTIME = ("awslambdaric", "simplejson", "snapshot-restore-py")
#: Lambda's runtime has them in it: functions do not bring them along.
SDK = ("boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3")
BOOTSTRAP = """#!/bin/sh
export PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}/var/runtime"
exec /var/lang/bin/python3 -m awslambdaric "$_HANDLER"
"""
ENVIRONMENT = {
    "PATH": "/var/lang/bin:/usr/bin:/bin",
    "LD_LIBRARY_PATH": "/var/lang/lib:/lib:/usr/lib",
    "LAMBDA_TASK_ROOT": "/var/task",
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
    "LANG": "C.UTF-8",
    "TZ": ":UTC",
}
#: What compiled wheels are linked to, wherever the C library's own files are.
BESIDE_LIBC = (
    "libpthread.so.0", "libdl.so.2", "libutil.so.1", "librt.so.1", "libm.so.6", "libresolv.so.2",
    "libgcc_s.so.1", "libnss_dns.so.2", "libnss_files.so.2",
)  # fmt: skip
#: Of the standard library, what no function imports.
UNUSED = re.compile(r"(^|/)(test|idlelib|tkinter|lib2to3|ensurepip|site-packages|__pycache__)(/|$)")


def main() -> None:
    """Import the image, and print its name."""
    version, architecture = sys.argv[1:]
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version != here:
        sys.exit(
            f"the image needs Python {version}, this is {here}: run make PYTHON=python{version}"
        )
    name = f"public.ecr.aws/lambda/python:{version}-{architecture}"
    changes = [f"ENV {key}={value}" for key, value in ENVIRONMENT.items()]
    changes += ["WORKDIR /var/task", f"ENTRYPOINT {json.dumps(['/lambda-entrypoint.sh'])}"]
    flags = [part for change in changes for part in ("--change", change)]
    with subprocess.Popen(
        ["docker", "import", *flags, "-", name], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as docker:
        assert docker.stdin is not None
        with tarfile.open(fileobj=docker.stdin, mode="w|") as archive:
            fill(archive)
        docker.stdin.close()
    if docker.returncode:
        sys.exit(docker.returncode)
    sys.stdout.write(f"{name}\n")


def fill(archive: tarfile.TarFile) -> None:
    """Write the whole root file system."""
    for folder in ("tmp", "var/task", "var/runtime", "var/rapid", "opt", "etc", "proc", "dev"):
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o777 if folder == "tmp" else 0o755
        archive.addfile(entry)
    text(archive, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    text(archive, "var/runtime/bootstrap", BOOTSTRAP, mode=0o755)
    text(archive, "lambda-entrypoint.sh", BOOTSTRAP, mode=0o755)
    programs = {name: Path(shutil.which(name) or sys.exit(f"no {name} here")) for name in COMMANDS}
    for name, path in programs.items():
        archive.add(path.resolve(), f"bin/{name}")
    for source, target in python_files():
        archive.add(source, target, recursive=False)
    linked = [*programs.values(), *(source for source, _ in python_files() if binary(source))]
    for library in libraries(linked):
        archive.add(library.resolve(), str(library).lstrip("/"))


def text(archive: tarfile.TarFile, name: str, content: str, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content.encode()), mode
    archive.addfile(entry, io.BytesIO(content.encode()))


def python_files() -> Iterator[tuple[Path, str]]:
    """This interpreter, its library and Lambda's own packages, and where they go."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    interpreter = Path(sys.executable).resolve()
    for name in ("python3", version):
        yield interpreter, f"var/lang/bin/{name}"
    library = Path(json.__file__).parents[1]
    for path in sorted(library.rglob("*")):
        inside = path.relative_to(library)
        if path.is_file() and not UNUSED.search(inside.as_posix()):
            yield path, f"var/lang/lib/{version}/{inside}"
    for name in Path(sys.base_prefix, "lib").glob("libpython*.so*"):
        yield name.resolve(), f"var/lang/lib/{name.name}"
    for package in (*RUNTIME, *SDK):
        for file in importlib.metadata.files(package) or []:
            if not file.parts[0].startswith("..") and "__pycache__" not in file.parts:
                yield Path(str(file.locate())), f"var/runtime/{file}"


def binary(path: Path) -> bool:
    return ".so" in path.name or path.parent.name == "bin"


def libraries(linked: list[Path]) -> list[Path]:
    """The shared libraries that these are linked to, and those of theirs."""
    found: set[Path] = set()
    for path in linked:
        said = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        found |= {Path(name) for name in re.findall(r"(?:=> |^\s*)(/\S+) \(0x", said, re.MULTILINE)}
    libc = next(path for path in found if path.name == "libc.so.6")
    beside = (libc.parent / name for name in BESIDE_LIBC)
    return sorted(found | {path for path in beside if path.exists()})


if __name__ == "__main__":
    main()
