"""A year of random schedules, against what Celery's own ``beat.Scheduler`` sends.

The scheduler runs in virtual time and unhindered; that is the truth. Ours gets ticks that are
doubled, late, out of order or lost, in several execution environments, and must come to the same
slots: each once, or by the entry's policy.
"""

from __future__ import annotations

import logging
import random
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery, Task
from celery.beat import Scheduler
from celery.schedules import crontab, schedule
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from twolane.beat import BeatHandler
from twolane.state.memory import MemoryStore

from ...installed import celery_5_7, since  # noqa: TID252

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE, DAY = 60.0, 86_400.0
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]
if not since("celery", 5, 5):
    # Celery then counts on the wall, and ``celery beat`` needs its five minutes to make up for it.
    ZONES = ["UTC", "Asia/Kathmandu"]


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """A year of ticks writes a line each, and a warning for each that was missed."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@dataclass
class World:
    """One app, its virtual time, and what our handler put on the queue."""

    entries: dict[str, dict[str, Any]]
    zone: str
    now: float
    sent: list[tuple[str, float, float]] = field(default_factory=list)  # entry, slot, when

    def app(self) -> Celery:
        world = self

        class Recording(Task):  # type: ignore[type-arg]
            def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> None:
                headers = options["headers"]
                slot = datetime.fromisoformat(headers["twolane_slot"]).timestamp()
                world.sent.append((headers["twolane_entry"], slot, world.now))
                if slot > world.now:
                    assert options["eta"].timestamp() == slot

        app = Celery("year", task_cls=Recording, set_as_current=False)
        app.conf.update(
            beat_schedule=self.entries, timezone=self.zone, result_backend="cache+memory://"
        )

        @app.task(name="t", shared=False)
        def task() -> None: ...

        app.now = lambda: datetime.fromtimestamp(self.now, UTC).astimezone(app.timezone)  # type: ignore[method-assign]
        return app


class Truth(Scheduler):
    """Celery's scheduler with its sending noted instead of done. Two of its habits make no sense in
    virtual time: waking 10 ms early, and telling times apart by less than a microsecond.
    """

    def __init__(self, app: Celery) -> None:
        self.slots: list[tuple[str, float]] = []
        super().__init__(app, max_interval=10 * 366 * DAY)

    def adjust(self, n: float, drift: float = 0) -> float:
        return n

    def _when(self, entry: Any, next_time_to_run: float, **kwargs: Any) -> float:
        return round(super()._when(entry, next_time_to_run, **kwargs), 6)

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **_: Any) -> None:
        self.slots.append((entry.name, self.app.now().timestamp()))

    @property
    def producer(self) -> None:  # type: ignore[override]
        return None


def celery_sends(world: World, start: float, end: float) -> dict[str, list[float]]:
    """Every slot in (start, end], as an undisturbed ``celery beat`` that began at ``start``."""
    world.now = start
    truth = Truth(world.app())
    for entry in truth.schedule.values():
        begun = start if isinstance(entry.schedule, schedule) else start - 1
        entry.last_run_at = datetime.fromtimestamp(begun, UTC).astimezone(truth.app.timezone)
    while world.now <= end:
        world.now = round(world.now + truth.tick(), 6)
    found: dict[str, list[float]] = {name: [] for name in world.entries}
    for name, slot in truth.slots:
        found[name].append(slot)
    return found


def policy_says(slots: list[float], policy: str, ticks: list[float], fine: bool) -> list[float]:
    """What one entry must send for these ticks, by the words of the policy, one tick at a time."""
    sent: list[float] = []
    done = ticks[0] - 2  # the first tick makes the entry known
    for tick in ticks:
        past = slots[bisect_right(slots, done) : bisect_right(slots, tick)]
        if policy == "all":
            sent += past[-100:]
        elif past and (policy == "latest" or tick - past[-1] < MINUTE):
            sent.append(past[-1])
        done = max(done, *past) if past else done
        for slot in slots[bisect_right(slots, max(done, tick)) :]:
            on_a_tick = (slot - tick) % MINUTE == 0 and not fine
            if slot >= tick + 2 * MINUTE or on_a_tick:
                break
            sent.append(slot)
            done = slot
    return sent


def play(world: World, deliveries: list[tuple[float, float]], environments: int = 3) -> None:
    """Deliver ticks (their time, and when they come) to environments that share one store."""
    store = MemoryStore(lambda: world.now)
    handlers = [
        BeatHandler(world.app(), store=store, clock=lambda: world.now) for _ in range(environments)
    ]
    for number, (tick, at) in enumerate(deliveries):
        world.now = at
        time = datetime.fromtimestamp(tick, UTC).isoformat()
        handlers[number % environments]({"time": time}, None)


def minute_of(instant: float) -> float:
    return instant // MINUTE * MINUTE


#: Many examples in little time, on a machine that is busy.
FAST = settings(
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow],
)

# ---- schedules ---------------------------------------------------------------------------------

HOURS = st.sampled_from(["*/8", "2", "1,2,3", "0-6/3", "23", "9,17"])
MINUTES = st.sampled_from(["0", "30", "15,45", "59"])
sparse_crontabs = st.builds(
    crontab,
    minute=MINUTES,
    hour=HOURS,
    day_of_week=st.sampled_from(["*", "mon-fri", "sun", "6"]),
    day_of_month=st.sampled_from(["*", "1", "28-31", "29", "1-7,15-21"]),
    month_of_year=st.sampled_from(["*", "*/3", "2", "3,10"]),
)


#: Before 5.7 ``celery beat`` adds an interval to the time on the wall, an hour off at a change.
def _interval(source: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return source if since("celery", 5, 7) else st.nothing()


sparse_intervals = st.one_of(
    _interval(st.integers(3, 400).map(lambda hours: timedelta(hours=hours))),
    _interval(st.integers(20_000, 900_000).map(float)),
    st.sampled_from([timedelta(hours=12), timedelta(days=1), timedelta(days=7)]).map(
        lambda every: schedule(every, relative=True)
    ),
)


def year_of(kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, dict[str, Any]]]:
    entry = st.builds(
        lambda when, policy: {
            "task": "t",
            "schedule": when,
            "options": {"headers": {"twolane_missed": policy}},
        },
        kinds,
        st.sampled_from(["skip", "latest", "all"]),
    )
    return st.lists(entry, min_size=1, max_size=3).map(
        lambda entries: {f"e{number}": entry for number, entry in enumerate(entries)}
    )


@settings(FAST, max_examples=9)
@given(
    entries=year_of(st.one_of(sparse_crontabs, sparse_intervals)),
    zone=st.sampled_from(ZONES),
    begin=st.integers(0, 365 * 1440),
    seed=st.integers(0, 2**32),
)
def test_a_year(entries: dict[str, dict[str, Any]], zone: str, begin: int, seed: int) -> None:
    rng = random.Random(seed)
    start = datetime(2026, 1, 1, tzinfo=UTC).timestamp() + begin * MINUTE
    end = start + 365 * DAY
    world = World(entries, zone, start)
    truth = celery_sends(world, start, end)

    # A tick a minute, of which only those are played that have something to do, and some others.
    busy = {minute_of(slot) + step for slots in truth.values() for slot in slots
            for step in (-MINUTE, 0, MINUTE)}  # fmt: skip
    idle = {minute_of(rng.uniform(start, end)) for _ in range(20)}
    times = [start, *sorted(tick for tick in busy | idle if start < tick <= end), end]
    lost = _outages(rng, start, end)
    delivered = [tick for tick in times if tick in (start, end) or not lost(tick)]
    deliveries = sorted(_disturbed(rng, delivered), key=lambda each: each[1])

    play(world, deliveries)

    sent: dict[str, list[float]] = {name: [] for name in entries}
    for name, slot, _ in world.sent:
        sent[name].append(slot)
    in_order = _effective(deliveries)
    for name, slots in truth.items():
        policy = entries[name]["options"]["headers"]["twolane_missed"]
        assert len(sent[name]) == len(set(sent[name])), f"{name}: a slot was sent twice"
        assert sorted(sent[name]) == policy_says(slots, policy, in_order, fine=False), name


def _outages(rng: random.Random, start: float, end: float) -> Any:
    """Some single ticks are lost, and some hours, days and weeks of them."""
    spans = [
        (at, at + rng.choice([3_600.0, DAY, 14 * DAY]))
        for at in (rng.uniform(start, end) for _ in range(rng.choice([0, 1, 4])))
    ]
    share = rng.choice([0.0, 0.02])
    return lambda tick: rng.random() < share or any(low <= tick < high for low, high in spans)


def _disturbed(rng: random.Random, ticks: list[float]) -> list[tuple[float, float]]:
    """Each tick with the time at which it comes, or the times: a tenth come twice, a tenth late."""
    found = []
    for tick in ticks:
        found.append((tick, tick + rng.choice([0.5] * 9 + [200.0])))
        if rng.random() < 0.1:
            found.append((tick, tick + rng.choice([0.6, 70.0, 3_600.0])))
    return [*found, (ticks[-1], ticks[-1] + 7_200.0)]


def _effective(deliveries: list[tuple[float, float]]) -> list[float]:
    """The ticks that advance anything: those later than all that came before."""
    effective: list[float] = []
    for tick, _ in deliveries:
        if not effective or tick > effective[-1]:
            effective.append(tick)
    return effective


dense = st.one_of(
    st.integers(5, 300).map(float),
    st.sampled_from([7.25, 0.1 + 59.9, 61.0]),
    st.builds(crontab, minute=st.sampled_from(["*", "*/7", "5-55/10"]), hour=st.just("*")),
    st.integers(1, 50).map(lambda minutes: schedule(timedelta(minutes=minutes), relative=True)),
)


@celery_5_7  # before, Celery's crontab leaves out the hour that comes twice
@settings(FAST, max_examples=8)
@given(
    entries=year_of(dense),
    zone=st.sampled_from(ZONES),
    seed=st.integers(0, 2**32),
)
def test_seconds_and_minutes_over_the_clock_changes(
    entries: dict[str, dict[str, Any]], zone: str, seed: int
) -> None:
    """Every tick for the hour about each change of the clocks, undisturbed but for late ones."""
    rng = random.Random(seed)
    for change in _changes(zone):
        start, end = change - 1_200, change + 4_800
        world = World(entries, zone, start)
        truth = celery_sends(world, start, end + 2 * MINUTE)
        ticks = [start + MINUTE * number for number in range(int((end - start) / MINUTE) + 1)]
        late = [0.0, *(rng.uniform(0, 59) for _ in ticks[1:])]  # but for the very first
        play(world, list(zip(ticks, map(float.__add__, ticks, late), strict=True)))
        for name, slots in truth.items():
            sent = sorted(slot for entry, slot, _ in world.sent if entry == name)
            assert sent == slots[: len(sent)], name
            missing = [slot for slot in slots[len(sent) :] if slot <= end]
            assert missing == [], name
        for name, slot, when in world.sent:
            every = entries[name]["schedule"]
            waits = (slot - start) % MINUTE == 0 and not (
                isinstance(every, float) and every < MINUTE
            )
            assert when - slot < (MINUTE if waits else 1), name


def _changes(zone: str) -> list[float]:
    """When the clocks of ``zone`` change in 2026; some hour where they never do."""
    info = ZoneInfo(zone)
    hours = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=30 * n) for n in range(17_520)]
    found = [
        late.timestamp()
        for early, late in pairwise(hours)
        if early.astimezone(info).utcoffset() != late.astimezone(info).utcoffset()
    ]
    return found or [hours[5_000].timestamp()]


@pytest.mark.parametrize("zone", ZONES)
def test_the_slots_of_one_minute_each_day_are_celerys(zone: str) -> None:
    """02:30, which the clocks leap over or pass twice, is where a careless chain goes wrong."""
    start = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    entries = {"night": {"task": "t", "schedule": crontab(hour=2, minute=30)}}
    world = World(entries, zone, start)
    truth = celery_sends(world, start, start + 365 * DAY)["night"]
    play(world, [(minute_of(slot), slot) for slot in truth])
    assert [slot for _, slot, _ in world.sent] == truth
    assert len(truth) == 365
