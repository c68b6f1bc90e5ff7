"""Many runs, on several cores, and what became of them."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twolane_local.simulator.demo import demo
from twolane_local.simulator.play import play
from twolane_local.simulator.schedule import draw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

#: Runs that a process does before it reports and takes the next.
_CHUNK = 20


@dataclass
class Tally:
    """What became of the runs so far."""

    runs: int = 0
    seconds: float = 0.0
    #: Of all processes together.
    cpu_seconds: float = 0.0
    #: Seed → what did not hold.
    violations: dict[int, list[str]] = field(default_factory=dict)
    #: How often each fault happened, and how many effects there were.
    faults: Counter[str] = field(default_factory=Counter)
    effects: int = 0
    tasks: int = 0

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "runs": self.runs,
            "seconds": round(self.seconds, 2),
            "cpuSeconds": round(self.cpu_seconds, 2),
            "violations": {str(seed): told for seed, told in sorted(self.violations.items())},
            "faults": dict(sorted(self.faults.items())),
            "effects": self.effects,
            "tasks": self.tasks,
        }

    def add(self, other: Tally) -> None:
        """Count another one's runs as well; the time is one's own."""
        self.runs += other.runs
        self.cpu_seconds += other.cpu_seconds
        self.violations |= other.violations
        self.faults.update(other.faults)
        self.effects += other.effects
        self.tasks += other.tasks


def run_seeds(seeds: Iterable[int], root: Path | None = None) -> Tally:
    """One run for each seed, in this process."""
    with demo(root) as application:
        return _tally(application, seeds)


def run_many(
    first: int, runs: int, jobs: int, progress: Callable[[Tally], object], root: Path | None = None
) -> Tally:
    """Seeds ``first`` to ``first + runs - 1`` on ``jobs`` processes."""
    tally = Tally()
    began = time.monotonic()
    for part in _parts(first, runs, jobs, root):
        tally.add(part)
        tally.seconds = time.monotonic() - began
        progress(tally)
    tally.seconds = time.monotonic() - began
    return tally


def _parts(first: int, runs: int, jobs: int, root: Path | None) -> Iterator[Tally]:
    chunks = [
        range(start, min(start + _CHUNK, first + runs))
        for start in range(first, first + runs, _CHUNK)
    ]
    if jobs == 1:
        for chunk in chunks:
            yield run_seeds(chunk, root)
        return
    # Spawned, not forked: a fork would share locks with threads that it has not.
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, initializer=_start, initargs=(root,)) as pool:
        yield from pool.imap_unordered(_run_chunk, chunks)


#: What a child process keeps between its chunks.
_child: dict[str, Any] = {}


def _start(root: Path | None) -> None:
    _child["context"] = demo(root)
    _child["application"] = _child["context"].__enter__()


def _run_chunk(seeds: range) -> Tally:
    return _tally(_child["application"], seeds)


def _tally(application: Any, seeds: Iterable[int]) -> Tally:
    tally = Tally()
    began = time.process_time()
    for seed in seeds:
        outcome = play(application, draw(seed))
        tally.runs += 1
        tally.faults.update(outcome.fired)
        tally.effects += len(outcome.history.of("effect.committed"))
        tally.tasks += len({fact.task for fact in outcome.history.of("body.taken")})
        if outcome.violations:
            tally.violations[seed] = [str(each) for each in outcome.violations]
    tally.cpu_seconds = time.process_time() - began
    return tally
