"""How each kind of unit is sent: the same lines for the API function and for a stock publisher."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import campaign_tasks as tasks
from celery import chain, chord, group


def plain(unit: int, ids: list[str], **options: Any) -> None:
    tasks.plain.apply_async((unit, 0, options.get("pause", 0.0)), task_id=ids[0])


def delayed(unit: int, ids: list[str], *, countdown: float, **_: Any) -> None:
    eta = datetime.now(UTC) + timedelta(seconds=countdown)
    tasks.plain.apply_async((unit,), task_id=ids[0], eta=eta)


def flaky(unit: int, ids: list[str], *, fails: int, **_: Any) -> None:
    tasks.flaky.apply_async((unit, fails), task_id=ids[0])


def doomed(unit: int, ids: list[str], **_: Any) -> None:
    tasks.doomed.apply_async((unit,), task_id=ids[0])


def errback(unit: int, ids: list[str], **_: Any) -> None:
    mourn = tasks.mourn.s().set(task_id=ids[1])
    tasks.doomed.apply_async((unit,), task_id=ids[0], link_error=mourn)


def errback_inline(unit: int, ids: list[str], **_: Any) -> None:
    tasks.doomed.apply_async((unit,), task_id=ids[0], link_error=tasks.lament.s())


def in_chain(unit: int, ids: list[str], **_: Any) -> None:
    first = tasks.step.s([], unit, 0).set(task_id=ids[0])
    rest = [tasks.step.s(unit, n).set(task_id=ids[n]) for n in range(1, len(ids))]
    chain(first, *rest).apply_async()


def in_group(unit: int, ids: list[str], **_: Any) -> None:
    group(tasks.plain.s(unit, n).set(task_id=ids[n]) for n in range(len(ids))).apply_async()


def _header(unit: int, ids: list[str], pause: float) -> list[Any]:
    return [tasks.part.s(unit, n, pause).set(task_id=ids[n]) for n in range(len(ids))]


def in_chord(unit: int, ids: list[str], *, pause: float = 0.0, **_: Any) -> None:
    chord(_header(unit, ids[:-1], pause))(tasks.total.s(unit).set(task_id=ids[-1]))


def nested(unit: int, ids: list[str], **_: Any) -> None:
    """Parts 0 and 1; a chord of 2, 3, 4 and its total; a chain of part 5 and one that passes it."""
    inner = chord(
        [tasks.part.s(unit, n).set(task_id=ids[n]) for n in (2, 3, 4)],
        tasks.total.s(unit, 1).set(task_id=ids[6]),
    )
    first = tasks.part.s(unit, 5).set(task_id=ids[5])
    line = chain(first, tasks.passed.s(unit, 6).set(task_id=ids[7]))
    chord([*_header(unit, ids[:2], 0.0), inner, line])(tasks.total.s(unit).set(task_id=ids[8]))


def replaced(unit: int, ids: list[str], *, steps: int, **_: Any) -> None:
    tasks.swap.apply_async((unit, steps), task_id=ids[0])


def link(unit: int, ids: list[str], **_: Any) -> None:
    after = tasks.linked.s(unit).set(task_id=ids[1])
    tasks.plain.apply_async((unit,), task_id=ids[0], link=after)


def expired(unit: int, ids: list[str], **_: Any) -> None:
    over = datetime.now(UTC) - timedelta(seconds=5)
    tasks.plain.apply_async((unit,), task_id=ids[0], expires=over)


def unknown(unit: int, ids: list[str], **_: Any) -> None:
    tasks.app.send_task("campaign.nobody", (unit,), task_id=ids[0])


SENDERS = {
    "plain": plain,
    "slow": plain,
    "eta": delayed,
    "revoked": delayed,
    "flaky": flaky,
    "doomed": doomed,
    "errback": errback,
    "errback-inline": errback_inline,
    "chain": in_chain,
    "group": in_group,
    "chord": in_chord,
    "nested": nested,
    "replace": replaced,
    "link": link,
    "expired": expired,
    "unknown": unknown,
}


def send(unit: dict[str, Any]) -> None:
    SENDERS[unit["kind"]](unit["unit"], unit["ids"], **unit["options"])
