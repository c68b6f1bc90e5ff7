"""The application's environment, before the tests that import it are collected."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from twolane_local.testing.project import Project

    Key = tuple[tuple[Path, ...], tuple[tuple[str, str], ...]]

#: The environments that were put in place.
prepared: list[Key] = []


def key_of(project: Project) -> Key:
    """What the application's modules are imported under; two that differ need two copies."""
    return project.folders, tuple(sorted(project.variables.items()))


def prepare(project: Project) -> None:
    """Give the process the project's environment and import path."""
    os.environ.update(project.variables)
    extend_path(project.folders)
    prepared.append(key_of(project))


def extend_path(folders: tuple[Path, ...]) -> None:
    """Have modules be found there, as in a function."""
    for folder in folders:
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
