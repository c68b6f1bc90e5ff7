"""The light publisher: stock ``task.delay()``, ``apply_async()`` and canvas, without boto3.

Celery is imported on first use: the HTTP side needs a name or two from here in applications that
enqueue nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twolane.publish.installation import install

__all__ = ["install"]


def __getattr__(name: str) -> object:
    if name != "install":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from twolane.publish.installation import install

    return install
