"""Hypothesis drives the application: it chooses who does what and what goes wrong, and shrinks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from twolane_local.faults.injection import CATALOGUE, Fault
from twolane_local.testing.simulation.play import Armed, Schedule, Step, play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.testing.simulation.simulator import Application

ROOT = Path(__file__).parents[4]
pytestmark = pytest.mark.filterwarnings("ignore")

WHO = st.sampled_from(
    ["anna@example.com", "flaky@simulator.example.com", "down@simulator.example.com"]
)
#: Seconds that pass between two steps.
PAUSES = st.sampled_from([0.0, 0.0, 1.0, 5.0, 60.0])
NAMES = st.sampled_from([name for name in CATALOGUE if name != "store.lost-write"])


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    from twolane_local.testing.simulation.demo import demo

    with demo(ROOT / "handlers") as loaded:
        yield loaded


class Machine(RuleBasedStateMachine):
    """Its state is a schedule that grows; whatever it is, a run of it breaks no invariant.

    A run starts from an empty system each time, so that a rule can be taken back when Hypothesis
    looks for the smallest example.
    """

    application: Application

    def __init__(self) -> None:
        super().__init__()
        self.at = 0.0
        self.steps: list[Step] = []
        self.faults: list[Armed] = []

    def step(self, action: str, pause: float, **about: Any) -> None:
        self.at += pause
        self.steps.append(Step(self.at, action, about))

    @rule(email=WHO, delay=st.sampled_from([0, 0, 1, 30]), pause=PAUSES)
    def defer(self, email: str, delay: int, pause: float) -> None:
        self.step("defer", pause, email=email, delay=delay)

    @rule(emails=st.lists(WHO, min_size=1, max_size=3), pause=PAUSES)
    def campaign(self, emails: list[str], pause: float) -> None:
        self.step("campaign", pause, emails=emails)

    @rule(number=st.integers(0, 3), pause=PAUSES)
    def revoke(self, number: int, pause: float) -> None:
        self.step("revoke", pause, number=number)

    @rule(name=NAMES, count=st.integers(1, 3), skip=st.integers(0, 3), seed=st.integers(0, 99))
    def goes_wrong(self, name: str, count: int, skip: int, seed: int) -> None:
        self.faults.append(Armed(self.at, Fault(name, seed=seed, count=count, skip=skip)))

    def schedule(self) -> Schedule:
        return Schedule(5, tuple(self.steps), tuple(self.faults), length_s=max(420.0, self.at + 60))

    def teardown(self) -> None:
        if self.steps:
            outcome = play(self.application, self.schedule())
            assert not outcome.violations, (
                [str(each) for each in outcome.violations],
                outcome.schedule.as_dict(),
            )


def machine(application: Application, examples: int, *, shrinks: bool = True) -> None:
    class Bound(Machine):
        pass

    Bound.application = application
    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=examples,
            stateful_step_count=8,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate, *([Phase.shrink] if shrinks else [])],
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
def test_no_sequence_of_requests_and_faults_breaks_an_invariant(application: Application) -> None:
    machine(application, 20)


def test_it_finds_a_planted_bug(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twolane.worker.lease.Leases.obstacle", lambda *_, **__: None)
    with pytest.raises(AssertionError, match=r"granted|was followed by"):
        machine(application, 60, shrinks=False)


@pytest.mark.slow
def test_many_sequences(application: Application) -> None:
    machine(application, 300)
