"""Advice for a person, and as JSON for a script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.advise.costs import bill, idle, prices

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twolane_local.advise.costs import Rates
    from twolane_local.advise.measure import Lane, Work
    from twolane_local.advise.verdict import Judgement

_WORDS = {"defer": "DEFER", "inline": "INLINE", "stay": "stay", "unknown": "too few runs"}


def as_text(judged: Sequence[tuple[Work, Judgement]], rates: Rates) -> Iterator[str]:
    """A paragraph for each piece of work: what it is, what to do, why, and what it costs."""
    for work, judgement in judged:
        yield f"{work.name}  ({judgement.lane})  →  {_WORDS[judgement.verdict]}"
        for name, lane in (("inline", work.inline), ("deferred", work.deferred)):
            if lane.runs:
                yield f"    {name:<9} {_numbers(lane)}"
        yield from (f"    · {reason}" for reason in judgement.reasons)
        cost = bill(work, rates)
        if cost.inline is not None and cost.deferred is not None:
            yield (
                f"    a month, {cost.runs:,.0f} runs: ${cost.inline:,.2f} inline, "
                f"${cost.deferred:,.2f} deferred"
                + (f"; its metrics ${cost.metrics:,.2f}" if cost.metrics else "")
            )
    if not judged:
        yield "the journal names no work of either lane; send some requests first"
        return
    known = prices()
    checked = "" if known["verified"] else ", to be checked"
    yield (
        f"Prices: {known['region']}, {known['date']}{checked}; without free tier. The deferred "
        f"lane costs ${idle(rates):,.2f} a month at rest (polling)."
    )


def _numbers(lane: Lane) -> str:
    parts = [f"{lane.runs} runs"]
    if lane.p50_ms is not None and lane.p95_ms is not None:
        parts.append(f"p50 {lane.p50_ms:.0f} ms, p95 {lane.p95_ms:.0f} ms")
    parts += [
        f"{count} {name}"
        for name, count in (
            ("failed", lane.failed), ("retried", lane.retried), ("lost", lane.lost),
            ("deferred", lane.deferred),
        )
        if count
    ]  # fmt: skip
    return ", ".join(parts)


def as_json(judged: Sequence[tuple[Work, Judgement]], rates: Rates) -> dict[str, Any]:
    """``{"prices", "idle", "work": [{"name", "lane", "advice", "reasons", "inline", …}]}``."""
    known = prices()
    return {
        "prices": {
            "region": known["region"],
            "date": str(known["date"]),
            "verified": known["verified"],
            "sources": [part["source"] for part in known.values() if isinstance(part, dict)
                        and "source" in part],
        },
        "requestsPerMonth": rates.requests,
        "idle": round(idle(rates), 4),
        "work": [_work(work, judgement, rates) for work, judgement in judged],
    }  # fmt: skip


def _work(work: Work, judgement: Judgement, rates: Rates) -> dict[str, Any]:
    cost = bill(work, rates)
    return {
        "name": work.name,
        "lane": judgement.lane,
        "advice": str(judgement.verdict),
        "reasons": list(judgement.reasons),
        "inline": _lane(work.inline),
        "deferred": _lane(work.deferred),
        "monthly": {
            "runs": cost.runs,
            "inline": cost.inline,
            "deferred": cost.deferred,
            "metrics": cost.metrics,
        },
    }


def _lane(lane: Lane) -> dict[str, Any] | None:
    if not lane.runs:
        return None
    return {
        "function": lane.function,
        "runs": lane.runs,
        "p50Ms": lane.p50_ms,
        "p95Ms": lane.p95_ms,
        "succeeded": lane.succeeded,
        "failed": lane.failed,
        "retried": lane.retried,
        "lost": lane.lost,
        "deferred": lane.deferred,
    }
