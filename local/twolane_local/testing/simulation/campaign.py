"""All placements of faults, on several cores: first each single one, then pairs.

A pair is a single strike and one more, at a point of the run that had the first. Where two single
strikes lead to the same run (the same history, and the same crossings after it), the pairs of one
of them stand for both. If there are more pairs than time, each primitive gets its share of it, in
an order drawn from a seed: those with few pairs are run completely.

The table in ``docs/faults.md`` is made by such a run.
"""

from __future__ import annotations

import functools
import multiprocessing
import random
import time
from bisect import bisect_right
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.model.states import camel_case
from twolane_local.testing.simulation.placements import Explorer, Placement, exploring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from twolane_local.testing.simulation.placements import Run


#: Runs that a process does before it reports and takes the next.
_CHUNK = 10

_CALLS = frozenset({"store", "store.done", "call.after"})

Points = tuple[tuple[int, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What a process tells of a run: ``points`` are those after its last strike, each with what can
    strike there; runs of one ``signature`` went the same way from there on.
    """

    placement: Placement
    violations: tuple[str, ...]
    missed: int
    points: Points
    signature: str


@dataclass
class Row:
    primitive: str
    store: str
    points: int = 0
    singles: int = 0
    singles_run: int = 0
    #: Pairs that there are, those that others stand for left out.
    pairs: int = 0
    pairs_run: int = 0
    violations: dict[str, list[str]] = field(default_factory=dict)

    @property
    def schedules(self) -> int:
        """How many ran, the one without a strike counted."""
        return 1 + self.singles_run + self.pairs_run

    def as_dict(self) -> dict[str, Any]:
        return camel_case(self)


@dataclass
class Report:
    """What became of all of it so far. ``missed``: strikes that never came, though their run had
    come to them before; there are none where runs repeat.
    """

    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    #: Of all processes together.
    cpu_seconds: float = 0.0
    missed: list[str] = field(default_factory=list)

    @property
    def runs(self) -> int:
        return sum(row.schedules for row in self.rows)

    @property
    def violations(self) -> dict[str, list[str]]:
        """Name of the schedule → what did not hold."""
        return {name: told for row in self.rows for name, told in row.violations.items()}

    @property
    def left_out(self) -> int:
        """Placements for which there was no time."""
        return sum(row.singles - row.singles_run + row.pairs - row.pairs_run for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "runs": self.runs,
            "seconds": round(self.seconds, 2),
            "cpuSeconds": round(self.cpu_seconds, 2),
            "leftOut": self.left_out,
            "missed": self.missed,
            "rows": [row.as_dict() for row in self.rows],
        }


@dataclass(frozen=True)
class Limits:
    """How much of it: ``runs`` and ``seconds`` end it; ``seed`` orders what there may be no time
    for.
    """

    runs: int | None = None
    seconds: float | None = None
    seed: int = 0


def explore(
    primitives: Sequence[str],
    stores: Sequence[str],
    *,
    jobs: int,
    limits: Limits,
    progress: Callable[[Report], object] = lambda _: None,
) -> Report:
    """Run what there is, within the limits."""
    report = Report([Row(name, store) for name in primitives for store in stores])
    with ExitStack() as undo:
        pool = None
        if jobs > 1:
            # Spawned, not forked: a fork would share locks with threads that it has not.
            context = multiprocessing.get_context("spawn")
            pool = undo.enter_context(ProcessPoolExecutor(jobs, mp_context=context))
        else:
            undo.callback(_close)
        _Campaign(report, limits, pool, jobs, progress).run()
    return report


class _Campaign:
    def __init__(
        self,
        report: Report,
        limits: Limits,
        pool: ProcessPoolExecutor | None,
        jobs: int,
        progress: Callable[[Report], object],
    ) -> None:
        self._report, self._limits, self._pool, self._jobs = report, limits, pool, jobs
        self._progress = progress
        self._began = time.monotonic()
        self._asked = 0
        self._rows = {(row.primitive, row.store): row for row in report.rows}

    def run(self) -> None:
        rows = self._report.rows
        singles: dict[int, list[Placement]] = {}
        for row, told in self._run([Placement(row.primitive, row.store)] for row in rows):
            row.points = len(told.points)
            singles[id(row)] = [
                told.placement.then(number, kind) for number, kinds in told.points for kind in kinds
            ]
            row.singles = len(singles[id(row)])
        # In a fixed order, whichever process was first.
        rng = random.Random(self._limits.seed)  # noqa: S311 - repeatable, no secret
        for row in rows:
            rng.shuffle(singles[id(row)])
        firsts: dict[int, dict[str, Told]] = {id(row): {} for row in rows}
        for row, told in self._run(_turns([_chunks(singles[id(row)]) for row in rows])):
            row.singles_run += 1
            known = firsts[id(row)].setdefault(told.signature, told)
            if told.placement.strikes < known.placement.strikes:  # whichever process was first
                firsts[id(row)][told.signature] = told
        pairs = [_Pairs(list(firsts[id(row)].values())) for row in rows]
        for row, each in zip(rows, pairs, strict=True):
            row.pairs = len(each)
        for row, _ in self._run(_turns([_chunks(each.shuffled(rng)) for each in pairs])):
            row.pairs_run += 1

    def _run(self, chunks: Iterable[list[Placement]]) -> Iterator[tuple[Row, Told]]:
        """In the order in which they end, as far as the limits allow."""
        waiting: set[Future[tuple[list[Told], float]]] = set()
        for chunk in chunks:
            allowed = self._allowed(chunk)
            if not allowed:
                break
            self._asked += len(allowed)
            if self._pool is None:
                yield from self._took(run_chunk(allowed))
                continue
            waiting.add(self._pool.submit(run_chunk, allowed))
            if len(waiting) > 2 * self._jobs:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for each in done:
                    yield from self._took(each.result())
        for each in waiting:
            yield from self._took(each.result())

    def _took(self, chunk: tuple[list[Told], float]) -> Iterator[tuple[Row, Told]]:
        ran, cpu_seconds = chunk
        for told in ran:
            row = self._rows[told.placement.primitive, told.placement.store]
            if told.violations:
                row.violations[told.placement.name] = list(told.violations)
            if told.missed:
                self._report.missed.append(told.placement.name)
            yield row, told
        self._report.cpu_seconds += cpu_seconds
        self._report.seconds = time.monotonic() - self._began
        self._progress(self._report)

    def _allowed(self, chunk: list[Placement]) -> list[Placement]:
        seconds, runs = self._limits.seconds, self._limits.runs
        if not chunk[0].strikes:
            return chunk  # without these there is nothing to choose from
        if seconds is not None and time.monotonic() - self._began >= seconds:
            return []
        return chunk if runs is None else chunk[: max(0, runs - self._asked)]


class _Pairs:
    """All second strikes after some first ones, each under a number."""

    def __init__(self, firsts: list[Told]) -> None:
        self._firsts = sorted(firsts, key=lambda told: told.placement.strikes)
        self._ends = list(accumulate(sum(len(kinds) for _, kinds in each.points)
                                     for each in self._firsts))  # fmt: skip

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def shuffled(self, rng: random.Random) -> Iterator[Placement]:
        for number in rng.sample(range(len(self)), len(self)):
            at = bisect_right(self._ends, number)
            begin = self._ends[at - 1] if at else 0
            yield _nth(self._firsts[at], number - begin)


def _nth(told: Told, number: int) -> Placement:
    for point, kinds in told.points:
        if number < len(kinds):
            return told.placement.then(point, kinds[number])
        number -= len(kinds)
    raise IndexError(number)


def _chunks(placements: Iterable[Placement]) -> Iterator[list[Placement]]:
    left = iter(placements)
    while chunk := list(islice(left, _CHUNK)):
        yield chunk


def _turns(each: list[Iterator[list[Placement]]]) -> Iterator[list[Placement]]:
    """One of each in turn, until all are at their end."""
    while each:
        left = []
        for chunks in each:
            chunk = next(chunks, None)
            if chunk is not None:
                left.append(chunks)
                yield chunk
        each = left


#: What this process has open: an explorer for each store.
_opened = ExitStack()


def run_chunk(chunk: list[Placement]) -> tuple[list[Told], float]:
    """Run some placements in this process; and how long it was at work."""
    began = time.process_time()
    told = [_told(_explorer(placement.store).run(placement)) for placement in chunk]
    return told, time.process_time() - began


@functools.cache
def _explorer(store: str) -> Explorer:
    return _opened.enter_context(exploring(store))


def _close() -> None:
    _explorer.cache_clear()
    _opened.close()


def _told(run: Run) -> Told:
    strikes = run.placement.strikes
    after = run.crossings[strikes[-1][0] + 1 :] if strikes else run.crossings
    # Of a call what is called; other targets are ids.
    shape = [
        (each.point, each.target.partition(" ")[0] if each.point in _CALLS else "", each.kinds)
        for each in after
    ]
    signature = blake2b(f"{run.digest} {shape}".encode(), digest_size=12).hexdigest()
    return Told(
        run.placement,
        tuple(str(each) for each in run.violations),
        run.missed,
        tuple((each.number, each.kinds) for each in after),
        signature,
    )


BEGIN, END = "<!-- exhaustive -->\n", "<!-- end of exhaustive -->"


def table(report: Report) -> str:
    """Primitives, what was run of each, and what did not hold."""
    head = "| primitive | store | points | single strikes | pairs | schedules run | violations |"
    lines, totals = [head, "|---|---|---:|---:|---:|---:|---:|"], [0] * 5
    for row in report.rows:
        cells = [row.points, row.singles, row.pairs, row.schedules, len(row.violations)]
        lines.append(_line(f"{row.primitive} | {row.store}", cells))
        totals = [total + cell for total, cell in zip(totals, cells, strict=True)]
    return "\n".join([*lines, _line("all |", totals)]) + "\n"


def _line(of: str, numbers: list[int]) -> str:
    return f"| {' | '.join([of, *(f'{each:,}' for each in numbers)])} |"


def write_table(page: Path, report: Report) -> None:
    """Put it between its marks. Raises ``LocalError`` where there are none."""
    text = page.read_text() if page.is_file() else ""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise LocalError(
            f"{page} has no place for the table; run this where twolane's docs/faults.md is"
        )
    page.write_text(f"{head}{begin}\n{table(report)}\n{end}{tail}")
