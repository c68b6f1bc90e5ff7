"""SnapStart: Lambda runs the init phase once, and starts each environment from a copy of it.

A unique value from init is then the same in all of them, and a connection that was open leads
nowhere: https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html

Each handler calls ``begin``, which registers one hook before the snapshot and one after each
restore. An object with a connection registers with ``holds``; work that is to be done anew in each
environment, with ``after_restore``. Without SnapStart nothing is registered or imported.
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Holder(Protocol):
    """Keeps a connection, or a client that does."""

    def let_go(self) -> None:
        """Close it; the next use opens another."""


_holders: WeakSet[Holder] = WeakSet()
_before: list[Callable[[], object]] = []
_after: list[Callable[[], object]] = []
_begun: list[bool] = []


def begin(environ: Mapping[str, str]) -> None:
    """Register the hooks, where Lambda will take a snapshot. Idempotent."""
    if _begun or environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start":
        return
    try:
        import snapshot_restore_py as hooks
    except ModuleNotFoundError:  # not Lambda's own runtime: it would not call them
        return
    _begun.append(True)
    # At the head: hooks of before the snapshot run in reverse, so ours is their last, and the first
    # after the restore. The application's own hooks may publish, and need what is unique.
    hooks.get_before_snapshot().insert(0, (_close, (), {}))
    hooks.get_after_restore().insert(0, (_renew, (), {}))


def pending() -> bool:
    """True in the environment that Lambda will take the snapshot of."""
    return bool(_begun)


def holds(holder: Holder) -> None:
    """Have ``holder`` let go before the snapshot, if it is still there."""
    _holders.add(holder)


def before_snapshot(call: Callable[[], object]) -> None:
    """Call it when all of init is done."""
    _before.append(call)


def after_restore(call: Callable[[], object]) -> None:
    """Call it once in each environment, in the order of these calls."""
    _after.append(call)


def _close() -> None:
    for call in _before:
        call()
    for holder in list(_holders):
        holder.let_go()


def _renew() -> None:
    import random

    _begun.clear()
    random.seed()
    for call in _after:
        call()
