from __future__ import annotations

import json
from itertools import chain

from twolane_local.checks import advise as verdict
from twolane_local.checks.advise import CostFactors, judge, measure

from .conftest import deferred, inline


def test_for_a_person() -> None:
    events = [*chain(*(inline("slow", 3000.0) for _ in range(2))), *deferred("once", 5.0)]
    judged = [(work, judge(work)) for work in measure(events)]
    text = list(verdict.as_text(judged, CostFactors(3_000_000, dynamodb=False)))
    assert text[0] == "once  (deferred)  →  too few runs"
    assert text[1] == "    deferred  1 runs, p50 5 ms, p95 5 ms"
    assert "slow  (inline)  →  DEFER" in text
    assert (
        "    a month, 2,000,000 runs: $100.00 inline, $102.97 deferred; its metrics $0.90" in text
    )
    assert text[-1].startswith("Prices: us-east-1, 2026-11-22, to be checked; without free tier.")


def test_an_empty_journal_says_what_to_do() -> None:
    assert list(verdict.as_text([], CostFactors(1))) == [
        "the journal names no work of either lane; send some requests first"
    ]


def test_as_json() -> None:
    judged = [(work, judge(work)) for work in measure(inline("slow", 3000.0))]
    result = json.loads(json.dumps(verdict.as_json(judged, CostFactors(1_000_000))))
    assert result["prices"]["sources"][0] == "https://aws.amazon.com/lambda/pricing/"
    assert (result["prices"]["date"], result["prices"]["verified"]) == ("2026-11-22", False)
    (work,) = result["work"]
    assert (work["name"], work["lane"], work["advice"]) == ("slow", "inline", "defer")
    assert work["deferred"] is None
    assert work["inline"]["p95Ms"] == 3000.0
    assert work["monthly"]["runs"] == 1_000_000
