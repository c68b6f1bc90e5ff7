"""Gives each function the interpreter and the packages that it asks for, where they can be had."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from twolane_local.requirements import interpreters, sam_build
from twolane_local.requirements.install import Installer, InstallError, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twolane_local.model import FunctionSpec


class Preparation:
    """``build`` installs requirements; ``others`` are interpreters other than ours.

    ``root`` is the template's folder, ``lent`` gives the one with what a runtime brings along, and
    ``say`` hears of the progress.
    """

    def __init__(
        self,
        root: Path,
        lent: Callable[[], Path],
        say: Callable[[str], None],
        *,
        build: bool,
        others: bool = True,
    ) -> None:
        self._root, self._lent, self._say = root, lent, say
        self._build, self._others = build, others
        #: A line for each thing that is not as on AWS, or that did not work.
        self.remarks: list[str] = []

    async def of(self, specs: Iterable[FunctionSpec]) -> tuple[FunctionSpec, ...]:
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
        if python and self._build and await interpreters.lacks(python, version, [], None) is None:
            python = None
        if self._build:
            group = await self._with_packages(
                group, python or sys.executable, version if python else interpreters.OURS
            )
        if version == interpreters.OURS:
            return group
        lent = self._lent() if python else None
        lacking = await interpreters.lacks(python, version, group, lent) if python else None
        if python is None or lent is None or lacking is None:
            why = f"there is no python{version} on the PATH" if self._others else (
                "handlers that are called in this process have its Python"
            )  # fmt: skip
            self._remark(version, group, why)
            return group
        for need in sorted({", ".join(each) for each in lacking if each}):
            whose = [
                spec for spec, each in zip(group, lacking, strict=True) if ", ".join(each) == need
            ]
            offer = "" if self._build else "; `twolane up --build` installs what requirements name"
            self._remark(version, whose, f"{python} has no {need}{offer}")
        return [
            spec if each else replace(spec, python=Path(python), packages=(*spec.packages, lent))
            for spec, each in zip(group, lacking, strict=True)
        ]

    def _remark(self, version: str, group: list[FunctionSpec], why: str) -> None:
        ids = ", ".join(spec.logical_id for spec in group)
        verb = "asks" if len(group) == 1 else "ask"
        self.remarks.append(
            f"{group[0].where}: Python {interpreters.OURS} runs {ids}, which {verb} for "
            f"{version}: {why}"
        )

    async def _with_packages(
        self, group: list[FunctionSpec], python: str, version: str
    ) -> list[FunctionSpec]:
        """Those of ``sam build`` where they are newer than the sources, else installed ones."""
        built = await asyncio.to_thread(sam_build.read, self._root)
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
                        work = installer.folder(Wanted(file, python, version))
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
        self._say_failures(group, wanted)
        return [
            replace(spec, packages=tuple(_found(mine)))
            for spec, mine in zip(group, wanted, strict=True)
        ]

    def _say_failures(
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
