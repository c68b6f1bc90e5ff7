"""All placements: what there is, what is left out, and in which order."""

from __future__ import annotations

import random

import pytest

from twolane_local.testing.simulation import campaign
from twolane_local.testing.simulation.campaign import Limits, Told, explore
from twolane_local.testing.simulation.placements import Placement

pytestmark = pytest.mark.filterwarnings("ignore")

FIRST = ("killed", "paused")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Placement]:
    """A system of four points; a strike that pauses changes nothing, wherever it is."""
    seen: list[Placement] = []

    def run_chunk(chunk: list[Placement]) -> tuple[list[Told], float]:
        seen.extend(chunk)
        return [told(placement) for placement in chunk], 0.1

    monkeypatch.setattr(campaign, "run_chunk", run_chunk)
    return seen


def told(placement: Placement) -> Told:
    last = placement.strikes[-1] if placement.strikes else (-1, "")
    points = tuple((number, FIRST) for number in range(last[0] + 1, 4))
    bad = ("E twice",) if placement.strikes == ((0, "killed"), (3, "killed")) else ()
    signature = "unchanged" if last[1] == "paused" else placement.name
    return Told(placement, bad, 0, points, signature)


def test_every_single_strike_and_every_pair(ran: list[Placement]) -> None:
    report = explore(["task"], ["redis"], jobs=1, limits=Limits())
    (row,) = report.rows
    assert (row.points, row.singles, row.singles_run) == (4, 8, 8)
    # After a kill at each of the points, and after the first pause, which stands for the others.
    after = 3 + 2 + 1 + 0 + 3
    assert (row.pairs, row.pairs_run) == (2 * after, 2 * after)
    assert report.runs == len(ran) == len(set(ran)) == 1 + 8 + 2 * after
    assert report.violations == {"task/redis/0:killed+3:killed": ["E twice"]}
    assert report.left_out == 0


def test_what_there_is_no_time_for_is_counted(ran: list[Placement]) -> None:
    report = explore(["task", "chord"], ["redis"], jobs=1, limits=Limits(runs=25))
    assert report.runs == len(ran) == 25
    assert report.left_out == 2 * (1 + 8 + 18) - 25
    assert [row.singles_run for row in report.rows] == [8, 8]


def test_the_choice_is_the_seed_s(ran: list[Placement]) -> None:
    def chosen(seed: int) -> list[Placement]:
        ran.clear()
        explore(["task"], ["redis"], jobs=1, limits=Limits(runs=12, seed=seed))
        return ran[:]

    assert chosen(1) == chosen(1) != chosen(2)


def test_the_time_is_kept(ran: list[Placement]) -> None:
    report = explore(["task"], ["redis"], jobs=1, limits=Limits(seconds=0.0))
    assert report.runs == 1  # without it nothing is known
    assert report.left_out == 8


def test_pairs_have_numbers() -> None:
    pairs = campaign._Pairs([told(Placement("task", "redis", ((0, "killed"),)))])
    assert len(pairs) == 6
    every = list(pairs.shuffled(random.Random(1)))
    assert len(set(every)) == 6
    assert {placement.strikes[0] for placement in every} == {(0, "killed")}


@pytest.mark.slow
def test_for_real_in_two_processes() -> None:
    report = explore(["task"], ["redis", "dynamodb"], jobs=2, limits=Limits(runs=60))
    assert report.runs == 60
    assert report.missed == []
    assert {row.store for row in report.rows if row.singles_run} == {"redis", "dynamodb"}
