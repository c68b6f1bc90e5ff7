"""Judges a campaign by what can be seen from outside. It knows nothing of the product.

It is given what the driver was told (units, and whether each was acknowledged), the faults that
struck, the effects file, the result store and the queues as they are at the end; all plain data.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

#: An effect: task name, unit or failed id, index, attempt.
Key = tuple[str, str, int, int]

#: What Celery does after the body has ended, and what is written on the way, in seconds.
MARGIN_S = 1.0

#: A function's timeout, and what its end takes.
LONGEST_S = 15.0

_OUTAGES = (
    "store.killed",
    "store.frozen",
    "store.slow",
    "emulator.killed",
    "emulator.frozen",
    "disk.full",
)
#: While these last, SQS takes nothing: what a task publishes itself (a retry, a chain's next step)
#: is refused to it, and it fails, as under a stock worker.
_REFUSALS = ("disk.full",)
_HITS = (
    "environment.killed", "environment.frozen", "environment.frozen-beyond-its-timeout",
    "api.killed",
)  # fmt: skip
#: A revoke is looked up once a second; one that comes later than this before the ETA is late.
REVOKED_IN_TIME_S = 3.0


@dataclass(frozen=True)
class Seen:
    """All that there is to see. Times are in epoch seconds."""

    #: Units, each with ``acknowledged``, ``sent_at``, ``answered_at``, perhaps ``revoked_at``.
    told: list[dict[str, Any]]
    #: ``{"fault", "at", "until", "pids"}``
    faults: list[dict[str, Any]]
    #: Lines of the effects file.
    effects: list[dict[str, Any]]
    #: Task id → ``{"status", "result"}``.
    results: dict[str, dict[str, Any]]
    #: Queue → how many messages are on it in whatever state.
    left: dict[str, int]
    #: ``{"body", "receives"}`` of each dead letter.
    dead: list[dict[str, Any]]
    max_receives: int = 6


#: SQS has the message, and its sender does not know.
_REPLY_LOST = "send.reply-lost"


@dataclass
class Verdict:
    violations: list[str] = field(default_factory=list)
    #: What explains a duplicate → how many.
    explained: Counter[str] = field(default_factory=Counter)
    duplicates: list[str] = field(default_factory=list)
    #: Units that failed as SQS refused what a task of theirs published.
    refused: list[str] = field(default_factory=list)


@dataclass
class Expected:
    """What an acknowledged unit comes to."""

    effects: list[Key] = field(default_factory=list)
    results: dict[str, tuple[str, Any]] = field(default_factory=dict)
    #: Effects that may happen or not.
    perhaps: list[Key] = field(default_factory=list)
    #: Ids that may have one of these states.
    either: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: Effects in the order in which they first happen.
    order: list[Key] = field(default_factory=list)
    #: Ids and bodies that are dead letters.
    dead_ids: list[str] = field(default_factory=list)
    dead_bodies: list[str] = field(default_factory=list)
    #: A body that is a dead letter, or whose task ran.
    ran_or_dead: str = ""


ANY = object()


def expected(unit: dict[str, Any]) -> Expected:
    return _EXPECTED[unit["kind"]](unit, str(unit["unit"]), unit["ids"], unit["options"])


def _plain(unit: dict[str, Any], number: str, ids: list[str], _: Any) -> Expected:
    return Expected([("campaign.plain", number, 0, 0)], {ids[0]: ("SUCCESS", unit["unit"])})


def _flaky(unit: dict[str, Any], number: str, ids: list[str], options: Any) -> Expected:
    attempts = [("campaign.flaky", number, 0, n) for n in range(options["fails"] + 1)]
    return Expected(attempts, {ids[0]: ("SUCCESS", unit["unit"])}, order=attempts)


def _doomed(_: dict[str, Any], number: str, ids: list[str], __: Any) -> Expected:
    return Expected([("campaign.doomed", number, 0, 0)], {ids[0]: ("FAILURE", ANY)})


def _errback(unit: dict[str, Any], number: str, ids: list[str], options: Any) -> Expected:
    one = _doomed(unit, number, ids, options)
    one.effects.append(("campaign.mourn", ids[0], 0, 0))
    one.results[ids[1]] = ("SUCCESS", None)
    return one


def _errback_inline(unit: dict[str, Any], number: str, ids: list[str], options: Any) -> Expected:
    one = _doomed(unit, number, ids, options)
    one.effects.append(("campaign.lament", ids[0], 0, 0))
    return one


def _chain(_: dict[str, Any], number: str, ids: list[str], __: Any) -> Expected:
    steps = [("campaign.step", number, n, 0) for n in range(len(ids))]
    results = {each: ("SUCCESS", list(range(n + 1))) for n, each in enumerate(ids)}
    return Expected(steps, results, order=steps)


def _group(unit: dict[str, Any], number: str, ids: list[str], _: Any) -> Expected:
    members = [("campaign.plain", number, n, 0) for n in range(len(ids))]
    return Expected(members, dict.fromkeys(ids, ("SUCCESS", unit["unit"])))


def _chord(_: dict[str, Any], number: str, ids: list[str], __: Any) -> Expected:
    parts = [("campaign.part", number, n, 0) for n in range(len(ids) - 1)]
    results: dict[str, tuple[str, Any]] = {each: ("SUCCESS", n) for n, each in enumerate(ids[:-1])}
    results[ids[-1]] = ("SUCCESS", sum(range(len(parts))))
    return Expected([*parts, ("campaign.total", number, 0, 0)], results)


def _nested(_: dict[str, Any], number: str, ids: list[str], __: Any) -> Expected:
    parts = [("campaign.part", number, n, 0) for n in range(6)]
    inner, outer = ("campaign.total", number, 1, 0), ("campaign.total", number, 0, 0)
    passed = ("campaign.passed", number, 6, 0)
    values = [0, 1, 2, 3, 4, 5, 9, 5, 0 + 1 + 9 + 5]
    results = {each: ("SUCCESS", values[n]) for n, each in enumerate(ids)}
    return Expected([*parts, inner, passed, outer], results, order=[inner, outer])


def _replace(unit: dict[str, Any], number: str, ids: list[str], options: Any) -> Expected:
    swap, steps = ("campaign.swap", number, 0, 0), options["steps"]
    after = [("campaign.step", number, n, 0) for n in range(steps)]
    after = after or [("campaign.plain", number, 0, 0)]
    result = list(range(steps)) if steps else unit["unit"]
    return Expected([swap, *after], {ids[0]: ("SUCCESS", result)}, order=[swap, *after])


def _link(unit: dict[str, Any], number: str, ids: list[str], _: Any) -> Expected:
    first, then = ("campaign.plain", number, 0, 0), ("campaign.linked", number, 0, 0)
    results = dict.fromkeys(ids, ("SUCCESS", unit["unit"]))
    return Expected([first, then], results, order=[first, then])


def _expired(_: dict[str, Any], __: str, ids: list[str], ___: Any) -> Expected:
    return Expected([], {ids[0]: ("REVOKED", ANY)})


def _revoked(unit: dict[str, Any], number: str, ids: list[str], options: Any) -> Expected:
    due = unit["sent_at"] + options["countdown"]
    revoked = unit.get("revoked_at")
    if revoked is not None and revoked < due - REVOKED_IN_TIME_S:
        return Expected([], {ids[0]: ("REVOKED", ANY)})
    return Expected(
        perhaps=[("campaign.plain", number, 0, 0)], either={ids[0]: ("SUCCESS", "REVOKED")}
    )


def _unknown(_: dict[str, Any], __: str, ids: list[str], ___: Any) -> Expected:
    return Expected(dead_ids=[ids[0]])


def _malformed(unit: dict[str, Any], *_: Any) -> Expected:
    return Expected(dead_bodies=list(unit["bodies"]))


def _odd(unit: dict[str, Any], *_: Any) -> Expected:
    return Expected(ran_or_dead=unit["bodies"][0])


_EXPECTED = {
    "plain": _plain, "slow": _plain, "eta": _plain, "repeated": _plain, "flaky": _flaky,
    "doomed": _doomed, "errback": _errback, "errback-inline": _errback_inline, "chain": _chain,
    "group": _group, "chord": _chord, "nested": _nested, "replace": _replace, "link": _link,
    "expired": _expired, "revoked": _revoked, "unknown": _unknown, "malformed": _malformed,
    "odd": _odd,
}  # fmt: skip

_ENDED = frozenset({"SUCCESS", "FAILURE", "REVOKED"})


def outstanding(told: list[dict[str, Any]], results: dict[str, dict[str, Any]]) -> list[str]:
    """Ids of acknowledged work whose outcome the store does not have yet."""
    missing = []
    for unit in told:
        if unit["acknowledged"]:
            one = expected(unit)
            missing += [
                each
                for each in (*one.results, *one.either)
                if results.get(each, {}).get("status") not in _ENDED
            ]
    return missing


def check(seen: Seen) -> Verdict:
    verdict = Verdict()
    runs = Runs(seen)
    for unit in seen.told:
        _Judge(unit, seen, runs, verdict).judge()
    _strangers(seen, runs, verdict)
    _queues(seen, verdict)
    return verdict


class Runs:
    """Each start of a task's body, and what came of it, by the effect's key."""

    def __init__(self, seen: Seen) -> None:
        self.by_key: dict[Key, list[dict[str, Any]]] = defaultdict(list)
        self.begun: Counter[tuple[str, str, int]] = Counter()
        self.by_pid: dict[int, list[dict[str, Any]]] = defaultdict(list)
        open_runs: dict[tuple[int, str, str, int], dict[str, Any]] = {}
        for line in sorted(seen.effects, key=lambda line: line["t"]):
            run = (line["pid"], line["task"], line["id"], line["attempt"])
            if line["what"] == "begun":
                self.begun[line["task"], line["id"], line["attempt"]] += 1
                open_runs[run] = {"begun": line, "effect": None, "settled": None}
                self.by_pid[line["pid"]].append(open_runs[run])
            elif run in open_runs and line["what"] == "effect":
                open_runs[run]["effect"] = line
                self.by_key[key_of(line)].append(open_runs[run])
            elif run in open_runs:
                open_runs[run]["settled"] = line

    def of_unit(self, unit: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            run
            for started in self.by_pid.values()
            for run in started
            if run["begun"].get("unit") == unit["unit"]
        ]

    def window(self, run: dict[str, Any]) -> tuple[float, float]:
        """When something that struck could keep the run's record from being made."""
        begun, settled = run["begun"]["t"], run["settled"]
        until = settled["t"] + MARGIN_S if settled else float("inf")
        after = [
            other["begun"]["t"]
            for other in self.by_pid[run["begun"]["pid"]]
            if other["begun"]["t"] > run["effect"]["t"]
            and other is not run
            # An errback of the new kind begins inside of the task that failed.
            and other["begun"]["task"] != "campaign.lament"
        ]
        return begun, min([until, *after])


def key_of(line: dict[str, Any]) -> Key:
    """Errbacks are known by the task that failed."""
    if "failed" in line:
        return line["task"], line["failed"], 0, line["attempt"]
    return line["task"], str(line["unit"]), line["index"], line["attempt"]


@dataclass
class _Judge:
    unit: dict[str, Any]
    seen: Seen
    runs: Runs
    verdict: Verdict

    def judge(self) -> None:
        one = expected(self.unit)
        fault = self._refused(one)
        promised = self.unit["acknowledged"] and fault is None
        for key in [*one.effects, *one.perhaps]:
            self._often(key, wanted=key in one.effects and promised)
        if fault is not None:
            self.verdict.refused.append(f"{self.unit['kind']} {self.unit['unit']}: {fault}")
        elif promised:
            self._results(one)
            self._dead(one)
        else:
            self._false_results(one)
        self._odd(one)
        self._order(one)
        self._inputs()
        self._due(one)

    def say(self, text: str) -> None:
        self.verdict.violations.append(
            f"{text} [unit {self.unit['unit']}, {self.unit['kind']}, via {self.unit['via']}]"
        )

    def _refused(self, one: Expected) -> str | None:
        """The fault by which SQS refused what a task of the unit's published, so that it failed."""
        failed = [
            task_id
            for task_id, (status, _) in one.results.items()
            if status != "FAILURE" and self.seen.results.get(task_id, {}).get("status") == "FAILURE"
        ]
        lost = [key for key in one.effects if key[0] == "campaign.mourn"]
        if not failed and (not lost or self.runs.by_key.get(lost[0])):
            return None
        for run in self.runs.of_unit(self.unit):
            ended = run["settled"]["t"] + MARGIN_S if run["settled"] else float("inf")
            for fault in self.seen.faults:
                overlaps = fault["at"] <= ended and run["begun"]["t"] <= fault["until"]
                if overlaps and fault["fault"] in _REFUSALS:
                    return str(fault["fault"])
        return None

    def _often(self, key: Key, *, wanted: bool) -> None:
        happened = self.runs.by_key.get(key, [])
        if wanted and not happened:
            self.say(f"lost: {_named(key)} never happened")
        for former, later in itertools.pairwise(happened):
            why = explanation(former, later, self.runs, self.seen.faults)
            if why is None:
                why = self._publisher_ran_twice(key)
            if why is None:
                self.say(
                    f"twice: {_named(key)} happened {len(happened)} times, at "
                    f"{former['effect']['t']:.3f} in {former['effect']['pid']} (settled: "
                    f"{_when(former)}) and at {later['effect']['t']:.3f} in "
                    f"{later['effect']['pid']}; no fault explains it"
                )
            else:
                self.verdict.explained[why["fault"]] += 1
                self.verdict.duplicates.append(
                    f"{_named(key)}: {why['fault']} at {why['at']:.3f} of {why.get('pids')}"
                )

    def _publisher_ran_twice(self, key: Key) -> dict[str, Any] | None:
        """What a task publishes under new ids is new work each time that the task runs: here the
        chain in whose favour a task replaced itself, and whose first step has a new id.
        """
        if self.unit["kind"] != "replace" or key[0] != "campaign.step":
            return None
        number = key[1]
        firsts = self.runs.by_key.get(("campaign.step", number, 0, 0), [])
        swaps = self.runs.by_key.get(("campaign.swap", number, 0, 0), [])
        chains = len({run["begun"]["id"] for run in firsts})
        if len(swaps) < 2 or chains != len(swaps) or len(self.runs.by_key[key]) > chains:
            return None
        return explanation(swaps[0], swaps[1], self.runs, self.seen.faults)

    def _results(self, one: Expected) -> None:
        for task_id, (status, value) in one.results.items():
            self._result(task_id, (status,), value, missing=True)
        for task_id, states in one.either.items():
            self._result(task_id, states, ANY, missing=True)

    def _false_results(self, one: Expected) -> None:
        for task_id, (status, value) in one.results.items():
            self._result(task_id, (status,), value, missing=False)

    def _result(self, task_id: str, states: tuple[str, ...], value: Any, *, missing: bool) -> None:
        found = self.seen.results.get(task_id)
        status = found["status"] if found else None
        if found is None or status not in _ENDED:
            if missing:
                self.say(f"lost: {task_id} has no outcome, its state is {status}")
        elif status not in states:
            self.say(
                f"false: {task_id} is {status} and not {' or '.join(states)}: "
                f"{str(found['result'])[:200]}"
            )
        elif value is not ANY and found["result"] != value:
            self.say(f"false: the result of {task_id} is {found['result']!r} and not {value!r}")

    def _dead(self, one: Expected) -> None:
        for task_id in one.dead_ids:
            letters = sum(f'"{task_id}"' in letter["body"] for letter in self.seen.dead)
            if letters > 1 and letters <= 1 + self._sent_again():
                # Copies of a message that no worker can run: nobody takes a lease for it.
                self.verdict.explained[_REPLY_LOST] += letters - 1
            elif letters != 1:
                self.say(f"dead letters: {letters} of {task_id}, and not 1")
        for body in one.dead_bodies:
            letters = sum(letter["body"] == body for letter in self.seen.dead)
            if letters != 1:
                self.say(f"dead letters: {letters} with the body {body[:80]!r}, and not 1")

    def _sent_again(self) -> int:
        """How many messages were sent again, as the answer to the first one was lost."""
        return sum(f["times"] for f in self.seen.faults if f["fault"] == _REPLY_LOST)

    def _odd(self, one: Expected) -> None:
        """Once, by whatever attempt its message says; or its body is a dead letter."""
        if not one.ran_or_dead:
            return
        letters = sum(letter["body"] == one.ran_or_dead for letter in self.seen.dead)
        ran = {
            key for key in self.runs.by_key
            if key[:2] == ("campaign.plain", str(self.unit["unit"]))
        }  # fmt: skip
        for key in ran:
            self._often(key, wanted=False)
        wanted = self.unit["acknowledged"]
        if letters + len(ran) > 1 or (wanted and letters + len(ran) == 0):
            self.say(f"odd: it ran {len(ran)} times, and is {letters} times a dead letter")

    def _order(self, one: Expected) -> None:
        known = [(key, self.runs.by_key[key][0]) for key in one.order if self.runs.by_key.get(key)]
        if len(known) < len(one.order) and known and one.order[0] != known[0][0]:
            self.say(f"order: {_named(known[0][0])} happened, {_named(one.order[0])} did not")
        for (former, first), (later, second) in itertools.pairwise(known):
            if second["effect"]["t"] < first["effect"]["t"]:
                self.say(f"order: {_named(later)} happened before {_named(former)}")

    def _inputs(self) -> None:
        """What the steps before gave, as the task got it."""
        number = str(self.unit["unit"])
        wanted: dict[tuple[str, int], Any] = {}
        if self.unit["kind"] == "chord":
            wanted["campaign.total", 0] = list(range(len(self.unit["ids"]) - 1))
        elif self.unit["kind"] == "nested":
            wanted["campaign.total", 0] = [0, 1, 9, 5]
            wanted["campaign.total", 1] = [2, 3, 4]
        elif self.unit["kind"] == "chain":
            for index in range(len(self.unit["ids"])):
                wanted["campaign.step", index] = list(range(index))
        for (task, index), value in wanted.items():
            for run in self.runs.by_key.get((task, number, index, 0), []):
                if run["effect"]["got"] != value:
                    got = run["effect"]["got"]
                    self.say(f"false: {task} {index} was given {got!r} and not {value!r}")

    def _due(self, one: Expected) -> None:
        """Nothing runs before its time."""
        countdown = self.unit["options"].get("countdown")
        if countdown is None:
            return
        for key in [*one.effects, *one.perhaps]:
            for run in self.runs.by_key.get(key, []):
                if run["effect"]["t"] < self.unit["sent_at"] + countdown - 0.05:
                    self.say(f"early: {_named(key)} happened before its ETA")


def explanation(
    former: dict[str, Any], later: dict[str, Any], runs: Runs, faults: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """The fault by which the former run's end was not known when the later one began."""
    begun, until = runs.window(former)
    until = min(until, later["effect"]["t"])
    pid = former["begun"]["pid"]
    for fault in faults:
        overlaps = fault["at"] <= until and begun <= fault["until"]
        if overlaps and fault["fault"] in _HITS and pid in fault["pids"]:
            return fault
    for fault in faults:
        overlaps = fault["at"] <= until and begun <= fault["until"] + MARGIN_S
        if overlaps and fault["fault"] in _OUTAGES:
            return fault
    return _timeout(former, runs, faults)


def _timeout(
    run: dict[str, Any], runs: Runs, faults: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """The end of the run's environment at its function's timeout: it says nothing any more."""
    if run["settled"] is not None:
        return None
    last = max(other["begun"]["t"] for other in runs.by_pid[run["begun"]["pid"]])
    for fault in faults:
        if fault["fault"] == "function.timeout" and last <= fault["at"] <= last + LONGEST_S:
            return fault
    return None


def _strangers(seen: Seen, runs: Runs, verdict: Verdict) -> None:
    """Effects and dead letters that nobody asked for."""
    asked = set()
    for unit in seen.told:
        one = expected(unit)
        asked |= {*one.effects, *one.perhaps}
        if one.ran_or_dead:
            asked |= {key for key in runs.by_key if key[1] == str(unit["unit"])}
    for key, happened in runs.by_key.items():
        if key not in asked:
            verdict.violations.append(
                f"uncalled: {_named(key)} happened {len(happened)} times, "
                f"id {happened[0]['effect']['id']}"
            )
    bodies = {body for unit in seen.told for body in unit["bodies"]}
    refused = {int(text.split(":")[0].split(" ")[1]) for text in verdict.refused}
    ids = [
        each
        for unit in seen.told
        for each in (unit["ids"] if unit["unit"] in refused else expected(unit).dead_ids)
    ]
    for letter in seen.dead:
        body = letter["body"]
        if body not in bodies and not any(f'"{each}"' in body for each in ids):
            verdict.violations.append(
                f"dead letter of good work, received {letter['receives']} times: {body[:400]}"
            )


def _queues(seen: Seen, verdict: Verdict) -> None:
    for queue, messages in seen.left.items():
        if messages:
            verdict.violations.append(f"left over: {messages} messages on {queue}")
    # A body starts at most once a receive, and a message has so many.
    for (task, task_id, attempt), often in Runs(seen).begun.items():
        if often > seen.max_receives:
            verdict.violations.append(
                f"received too often: {task} {task_id}, attempt {attempt}, began {often} times, "
                f"maxReceiveCount is {seen.max_receives}"
            )


def _named(key: Key) -> str:
    task, unit, index, attempt = key
    return f"{task} of {unit}, index {index}, attempt {attempt}"


def _when(run: dict[str, Any]) -> str:
    return f"{run['settled']['t']:.3f}" if run["settled"] else "never"
