"""Prepares functions to run: finds their interpreters and their packages.

Packages come from ``sam build`` if it is newer than the sources, else they are installed into a
cache, in one folder for each content of requirements and each interpreter.
"""

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
import tomllib
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_ import interpreters
from twolane_local.aws.lambda_.interpreters import local_package_files, with_included
from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from twolane_local.model import FunctionSpec


#: Each is a process that takes a core, and mostly waits for the network.
_AT_ONCE = 4


class InstallError(LocalError):
    """An installation failed; the message has the file, the tool and the tool's last line."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """A requirements file to install for an interpreter and its version."""

    file: Path
    python: str
    version: str  # "3.13"


class Installer:
    """Installs requirements into the cache; calls ``say`` with its progress."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._limit = asyncio.Semaphore(_AT_ONCE)

    async def folder(self, wanted: Requirements) -> Path:
        """The folder of these requirements, installed if needed; raises ``InstallError``."""
        target = directory() / "packages" / _key(wanted)
        if target.is_dir():
            return target
        async with self._limit:
            await self._install(wanted, target)
        return target

    async def _install(self, wanted: Requirements, target: Path) -> None:
        tool, command = _tool(wanted.python)
        self._say(f"installing {wanted.file} for Python {wanted.version} by {tool} …")
        began = time.monotonic()
        target.parent.mkdir(parents=True, exist_ok=True)
        # Installed aside and renamed, so that an existing folder is always complete.
        aside = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
        try:
            into = aside / "packages"
            options = ["--target", str(into), "--requirement", str(wanted.file)]
            status, last = await _run([*command, *options], wanted.file.parent)
            if status:
                raise InstallError(f"{wanted.file} cannot be installed: {tool}: {last}")
            into.mkdir(exist_ok=True)  # the file may name no package
            with suppress(OSError):  # another emulator was faster
                into.replace(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        self._say(f"installed {wanted.file} in {time.monotonic() - began:.1f} s")


def _tool(python: str) -> tuple[str, list[str]]:
    """uv if it is installed, else the interpreter's pip, else a pip that installs for others."""
    uv, pip = shutil.which("uv"), shutil.which("pip")
    if uv:
        return "uv", [uv, "pip", "install", "--python", python]
    options = ["install", "--no-input", "--disable-pip-version-check"]
    if pip and python == sys.executable and find_spec("pip") is None:
        return "pip", [pip, "--python", python, *options]
    return "pip", [python, "-m", "pip", *options]


def _key(wanted: Requirements) -> str:
    found = hashlib.sha256(
        f"{wanted.version} {sys.platform} {platform.machine()} {sys.prefix}".encode()
    )
    for file in with_included(wanted.file):
        found.update(b"\0" + file.read_bytes())
    for file in local_package_files(wanted.file):
        about = file.stat()
        found.update(f"\0{file} {about.st_mtime_ns} {about.st_size}".encode())
    return f"python{wanted.version}-{found.hexdigest()[:24]}"


async def _run(command: list[str], folder: Path) -> tuple[int, str]:
    """Run a command; returns its exit status and the last line of its output."""
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
    lines = [line for line in lines if line] or ["it printed nothing"]
    return process.returncode or 0, lines[-1]


#: Folders that hold no sources of the project.
_NO_SOURCE = frozenset({"node_modules", "__pycache__", "venv", "cdk.out", "build", "dist"})
_MACHINES = {"x86_64": ("x86_64", "amd64"), "arm64": ("arm64", "aarch64")}


@dataclass(frozen=True, slots=True)
class SamBuild:
    """The results of ``sam build``: folders with packages, by source folder and Python version."""

    folders: dict[tuple[Path, str], Path]
    at: float = 0.0
    #: True if its code is that of the sources, apart from files that were edited since.
    is_copy: bool = False
    #: True if no file of the project was edited since.
    is_newest: bool = False

    def folder(self, sources: Path, version: str | None) -> Path | None:
        """The folder for these sources, ``None`` if it is older than their requirements.

        With ``None``, any version does.
        """
        found = (
            self.folders.get((sources, version))
            if version is not None
            else next((each for (of, _), each in self.folders.items() if of == sources), None)
        )
        requirements = sources / "requirements.txt"
        if found is None or (requirements.is_file() and requirements.stat().st_mtime > self.at):
            return None
        return found


def read_sam_build(root: Path) -> SamBuild:
    """The build of a project, without parts that this machine cannot run."""
    folder = root / ".aws-sam" / "build"
    file = root / ".aws-sam" / "build.toml"
    try:
        content = tomllib.loads(file.read_text())
        at = file.stat().st_mtime
    except (OSError, ValueError):
        return SamBuild({})
    found: dict[tuple[Path, str], Path] = {}
    every = [
        (each, str(each.get("runtime", "")), folder / str((each.get("functions") or ["?"])[0]))
        for each in _maps(content, "function_build_definitions")
    ]
    every += [
        (each, str(each.get("build_method", "")), folder / str(each.get("layer")) / "python")
        for each in _maps(content, "layer_build_definitions")
    ]
    for each, runtime, made in every:
        if _runs_here(each):
            _add(found, root, each, runtime.removeprefix("python"), made)
    plain = all(
        runtime.startswith("python") and "BuildMethod" not in (each.get("metadata") or {})
        for each, runtime, _ in every
    )
    is_copy = (
        plain
        and len(found) == len(every) > 0
        and all(_is_copy(sources, made, at) for (sources, _), made in found.items())
    )
    files = (*root.glob("template.*"), *code_below(root, (".py", ".txt", ".toml")))
    return SamBuild(found, at, is_copy, all(changed_at(file) <= at for file in files))


def _is_copy(sources: Path, made: Path, at: float) -> bool:
    """True if all files that were not edited since are the same in both folders."""
    try:
        return all(
            file.stat().st_mtime > at
            or (made / file.relative_to(sources)).read_bytes() == file.read_bytes()
            for file in code_below(sources)
        )
    except OSError:
        return False


def changed_at(file: Path) -> float:
    """The time of a file's last change, 0 for a missing file."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def code_below(folder: Path, suffixes: tuple[str, ...] = (".py",)) -> Iterator[Path]:
    """The project's own files, without those that tools keep or make there."""
    for base, folders, names in os.walk(folder):
        folders[:] = [
            name for name in folders if name not in _NO_SOURCE and not name.startswith(".")
        ]
        yield from (
            Path(base, name)
            for name in names
            # Editors keep a dangling link, with a dot, for each file that they edit.
            if name.endswith(suffixes) and not name.startswith(".")
        )


def _maps(content: dict[str, Any], section: str) -> list[dict[str, Any]]:
    value = content.get(section)
    values = value.values() if isinstance(value, dict) else ()
    return [each for each in values if isinstance(each, dict)]


def _runs_here(definition: dict[str, Any]) -> bool:
    """True if compiled packages run on this machine: `sam build` compiles for Linux."""
    machines = _MACHINES.get(str(definition.get("architecture", "x86_64")), ())
    return sys.platform == "linux" and platform.machine().lower() in machines


def _add(
    found: dict[tuple[Path, str], Path],
    root: Path,
    definition: dict[str, Any],
    version: str,
    folder: Path,
) -> None:
    if folder.is_dir():
        found[(root / str(definition.get("codeuri", ""))).resolve(), version] = folder


class Preparation:
    """Sets ``python`` and ``packages`` of functions.

    ``root`` is the template's folder. ``runtime_packages`` returns the folder with the packages of
    Lambda's runtime, and ``say`` is called with the progress. ``build`` installs requirements;
    ``others`` allows other interpreters than ours.
    """

    def __init__(
        self,
        root: Path,
        runtime_packages: Callable[[], Path],
        say: Callable[[str], None],
        *,
        build: bool,
        others: bool = True,
    ) -> None:
        self._root, self._runtime_packages, self._say = root, runtime_packages, say
        self._build, self._others = build, others
        self._built = SamBuild({}) if build else read_sam_build(root)
        #: One line for each difference to AWS and each failure.
        self.remarks: list[str] = []
        #: For functions of the API, by version.
        self._interpreters: dict[str, tuple[Path, Path] | None] = {}

    async def prepare_made(self, specs: Iterable[FunctionSpec]) -> tuple[FunctionSpec, ...]:
        """The functions, those that the API has made with their ``python`` and ``packages``.

        Their packages are in their code; what ``prepare`` has done stays.
        """
        return tuple([await self._prepare_made(spec) for spec in specs])

    async def _prepare_made(self, spec: FunctionSpec) -> FunctionSpec:
        versions = {each: await self._prepare_made(one) for each, one in spec.versions.items()}
        spec = replace(spec, versions=versions) if versions else spec
        if not spec.by_api or spec.unrunnable or not spec.runtime.startswith("python"):
            return spec
        version = spec.runtime.removeprefix("python")
        if version == interpreters.OURS or spec.python is not None:
            return spec
        if version not in self._interpreters:
            self._interpreters[version] = await self._interpreter(version)
            if self._interpreters[version] is None:
                self._say(
                    f"Python {interpreters.OURS} runs {spec.name}, which asks for {version}: there "
                    f"is no python{version} on the PATH"
                )
        found = self._interpreters[version]
        return spec if found is None else replace(spec, python=found[0], packages=(found[1],))

    async def _interpreter(self, version: str) -> tuple[Path, Path] | None:
        """The interpreter of this version and the folder with the runtime's packages."""
        python = interpreters.on_path(version) if self._others else None
        if python is None:
            return None
        runtime = self._runtime_packages()
        missing = await interpreters.missing_modules(python, version, [], runtime)
        return None if missing is None else (Path(python), runtime)

    async def prepare(self, specs: Iterable[FunctionSpec]) -> tuple[FunctionSpec, ...]:
        """The functions with their ``python`` and ``packages``."""
        self.remarks = []
        groups: dict[str, list[FunctionSpec]] = defaultdict(list)
        order = [spec.name for spec in specs]
        done: dict[str, FunctionSpec] = {}
        for spec in specs:
            if spec.runtime.startswith("python") and not spec.unrunnable:
                groups[spec.runtime.removeprefix("python")].append(spec)
            else:
                done[spec.name] = spec
        for version, group in groups.items():
            done |= {spec.name: spec for spec in await self._group(version, group)}
        return tuple(done[name] for name in order)

    async def _group(self, version: str, group: list[FunctionSpec]) -> list[FunctionSpec]:
        python = interpreters.on_path(version) if self._others else None
        if (
            python
            and self._build
            and await interpreters.missing_modules(python, version, [], None) is None
        ):
            python = None
        if self._build:
            group = await self._with_packages(
                group, python or sys.executable, version if python else interpreters.OURS
            )
        elif self._built.is_copy:
            group = self._with_built(group, version if python else interpreters.OURS)
        if version == interpreters.OURS:
            return group
        runtime = self._runtime_packages() if python else None
        missing = (
            await interpreters.missing_modules(python, version, group, runtime) if python else None
        )
        if python is None or runtime is None or missing is None:
            why = f"there is no python{version} on the PATH" if self._others else (
                "handlers that are called in this process have its Python"
            )  # fmt: skip
            self._remark(version, group, why)
            return group
        for need in sorted({", ".join(each) for each in missing if each}):
            whose = [
                spec for spec, each in zip(group, missing, strict=True) if ", ".join(each) == need
            ]
            offer = "" if self._build else "; `twolane up --build` installs what requirements name"
            self._remark(version, whose, f"{python} has no {need}{offer}")
        return [
            spec if each else replace(spec, python=Path(python), packages=(*spec.packages, runtime))
            for spec, each in zip(group, missing, strict=True)
        ]

    def _remark(self, version: str, group: list[FunctionSpec], why: str) -> None:
        ids = ", ".join(spec.logical_id for spec in group)
        verb = "asks" if len(group) == 1 else "ask"
        self.remarks.append(
            f"{group[0].where}: Python {interpreters.OURS} runs {ids}, which {verb} for "
            f"{version}: {why}"
        )

    def _with_built(self, group: list[FunctionSpec], version: str) -> list[FunctionSpec]:
        """The functions with the packages that ``sam build`` has installed for their sources.

        Packages for another version of Python are used only if the build is the newest, as
        ``sam local`` would run it.
        """

        def folder(sources: Path) -> Path | None:
            any_version = None if self._built.is_newest else version
            return self._built.folder(sources, version) or self._built.folder(sources, any_version)

        return [
            replace(
                spec,
                packages=tuple(
                    found for file in spec.requirements if (found := folder(file.parent))
                ),
            )
            for spec in group
        ]

    async def _with_packages(
        self, group: list[FunctionSpec], python: str, version: str
    ) -> list[FunctionSpec]:
        """The functions with their packages; installs those that ``sam build`` does not have."""
        built = await asyncio.to_thread(read_sam_build, self._root)
        installer = Installer(self._say)
        of_file: dict[Path, asyncio.Task[Path]] = {}
        wanted: list[list[Path | asyncio.Task[Path]]] = []
        for spec in group:
            mine: list[Path | asyncio.Task[Path]] = []
            for file in spec.requirements:
                folder = built.folder(file.parent, version)
                if folder is not None:
                    mine.append(folder)
                elif file.is_file() and ".aws-sam" not in file.parts:
                    if file not in of_file:
                        work = installer.folder(Requirements(file, python, version))
                        of_file[file] = asyncio.create_task(work)
                    mine.append(of_file[file])
            wanted.append(mine)
        try:
            await asyncio.gather(*of_file.values(), return_exceptions=True)
        except asyncio.CancelledError:
            for task in of_file.values():
                task.cancel()
            await asyncio.gather(*of_file.values(), return_exceptions=True)
            raise
        self._remark_failures(group, wanted)
        return [
            replace(spec, packages=tuple(_found(mine)))
            for spec, mine in zip(group, wanted, strict=True)
        ]

    def _remark_failures(
        self, group: list[FunctionSpec], wanted: list[list[Path | asyncio.Task[Path]]]
    ) -> None:
        of_line: dict[str, list[FunctionSpec]] = defaultdict(list)
        for spec, mine in zip(group, wanted, strict=True):
            for each in mine:
                if isinstance(each, asyncio.Task) and (error := each.exception()) is not None:
                    if not isinstance(error, InstallError | OSError):
                        raise error
                    of_line[str(error)].append(spec)
        for line, specs in of_line.items():
            ids = ", ".join(spec.logical_id for spec in specs)
            self.remarks.append(f"{specs[0].where}: {ids}: {line}")


def _found(mine: list[Path | asyncio.Task[Path]]) -> list[Path]:
    found = [
        each if isinstance(each, Path) else each.result()
        for each in mine
        if isinstance(each, Path) or each.exception() is None
    ]
    return [Path(os.path.abspath(each)) for each in found]  # noqa: PTH100 (a link stays one)


def directory() -> Path:
    """``$XDG_CACHE_HOME/twolane``, by default ``~/.cache/twolane``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "twolane"
