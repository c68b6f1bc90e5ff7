"""Which versions are installed: what a test expects of Celery's own parts differs between some."""

from __future__ import annotations

import re
from importlib import metadata

import pytest


def since(library: str, *version: int) -> bool:
    """True if the installed version is this one or a later one."""
    found = tuple(int(part) for part in re.findall(r"\d+", metadata.version(library))[:3])
    return found >= version


#: What a rejected task's result says: Celery stores none before 5.7.
REJECTED = "FAILURE" if since("celery", 5, 7) else "PENDING"

celery_5_7 = pytest.mark.skipif(not since("celery", 5, 7), reason="Celery has this since 5.7")
