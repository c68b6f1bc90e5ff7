"""Which versions are installed: what a test expects of Celery's own parts differs between some."""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping


def since(library: str, *version: int) -> bool:
    """True if the installed version is this one or a later one."""
    found = tuple(int(part) for part in re.findall(r"\d+", metadata.version(library))[:3])
    return found >= version


def shape_of(place: str, newest: Mapping[str, str], older: Mapping[str, Mapping[str, str]]) -> str:
    """A place's shape in the installed version; ``library<version`` holds those of older ones."""
    for below, places in older.items():
        library, _, version = below.partition("<")
        if place in places and not since(library, *map(int, version.split("."))):
            return places[place]
    return newest[place]


#: What a rejected task's result says: Celery stores none before 5.7.
REJECTED = "FAILURE" if since("celery", 5, 7) else "PENDING"

celery_5_7 = pytest.mark.skipif(not since("celery", 5, 7), reason="Celery has this since 5.7")
