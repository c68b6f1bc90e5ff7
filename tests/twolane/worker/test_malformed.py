"""Whole batches with messages in them that nobody meant to send: each harms its own record only.

Whatever a header, property, body or attribute holds, every other task of the batch runs once and
its result is stored, on either store, and nothing escapes the handler.
"""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twolane import WorkerHandler

from .conftest import Context, RecordedQueues, body, event, make_app, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery

INNOCENT = 3
DEEP = "[" * 100_000 + "]" * 100_000
LONG = "x" * 3_000
SURROGATE = "a\ud800b"


@dataclass
class Lane:
    """A worker, and what has run on it."""

    app: Celery
    handler: WorkerHandler
    ran: Counter[str] = field(default_factory=Counter)
    batches: int = 0

    def run(self, *odd: Any) -> dict[int, str]:
        """Put records among tasks that are well; what became of each: returned, ran or gone."""
        self.batches += 1
        wells = [f"well-{self.batches}-{number}" for number in range(INNOCENT)]
        well = [record(body("note", name, task_id=name), f"m-{name}") for name in wells]
        given = [*well[:1], *odd, *well[1:]]
        before = self.ran["odd"]
        answer = self.handler(event(*given), Context())
        returned = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
        ids = [one.get("messageId") if isinstance(one, dict) else None for one in odd]
        assert returned <= {one for one in ids if isinstance(one, str)}
        for name in wells:
            assert self.ran.pop(name, 0) == 1, f"{name} ran not once"
            assert self.app.AsyncResult(name).state == "SUCCESS"
        ran = self.ran["odd"] - before
        return {
            number: "returned" if one in returned else "ran" if ran else "gone"
            for number, one in enumerate(ids)
        }


def make_lane(backend: str, **settings: Any) -> Lane:
    app = make_app(worker_hijack_root_logger=False, **settings)
    app.conf.update(result_backend=backend, result_extended=True)
    handler = WorkerHandler(app, queues=RecordedQueues(), hostname="w@h")
    lane = Lane(app, handler)

    @app.task(shared=False, name="note")
    def note(name: str = "odd", *_: Any, **__: Any) -> None:
        lane.ran[name if isinstance(name, str) else "odd"] += 1

    return lane


@pytest.fixture(params=["redis", "dynamodb"])
def lane(request: pytest.FixtureRequest) -> Iterator[Lane]:
    if request.param == "redis":
        made = make_lane(request.getfixturevalue("redis_url"))
        yield made
        cast("Any", made.app.backend).client.connection_pool.disconnect()
    else:
        request.getfixturevalue("results_table")
        yield make_lane("dynamodb://@us-east-1/results")


#: Case by case on one store; all of them at once are tried on both.
each_alone = pytest.mark.parametrize(
    "lane", ["redis", pytest.param("dynamodb", marks=pytest.mark.slow)], indirect=True
)


def odd(**changes: Any) -> dict[str, Any]:
    """The envelope of a task, with other headers."""
    found: dict[str, Any] = json.loads(body("note", "odd", task_id="odd"))
    found["headers"] |= changes
    return found


def protocol_1(**changes: Any) -> dict[str, Any]:
    content = {"task": "note", "id": "odd", "args": ["odd"], "kwargs": {}, "retries": 0}
    return {**odd(), "headers": {}, "body": json.dumps({**content, **changes})}


def compressed(raw: bytes, method: str, **changes: Any) -> dict[str, Any]:
    found = odd(compression=method)
    found["properties"]["body_encoding"] = "base64"
    return {**found, "body": base64.b64encode(raw).decode(), **changes}


def once(envelope: Any, **fields: Any) -> dict[str, Any]:
    """A record of an envelope, whose task has not run before."""
    text = envelope if isinstance(envelope, str) else json.dumps(envelope)
    return {**record(text), **fields}


REFUSED = {
    "stamped_headers": odd(stamped_headers=5),
    "stamps": odd(stamps=7),
    "stamped_headers of lists": odd(stamped_headers=[["a"]]),
    "stamps beyond counting": odd(stamped_headers=["a"], stamps={"a": list(range(20_000))}),
    "a surrogate in id": odd(id=SURROGATE),
    "a number as id": odd(id=5),
    "an empty id": odd(id=""),
    "no id": odd(id=None),
    "an id's list": odd(id=[1]),
    "a task's list": odd(task=["note"]),
    "a task's number": odd(task=5),
    "a shadow's list": odd(shadow=["x"]),
    "timelimit": odd(timelimit="ab"),
    "a timelimit of words": odd(timelimit=["a", "b"]),
    "a timelimit of three": odd(timelimit=[1, 2, 3]),
    "a timelimit beyond floats": odd(timelimit=[int("9" * 400), None]),
    "expires": odd(expires=[5]),
    "eta": odd(eta={"a": 1}),
    "compression": odd(compression=[1]),
    "compression that is unknown": odd(compression="rot13"),
    "headers": {**odd(), "headers": [1]},
    "properties": {**odd(), "properties": [1]},
    "a body's number": {**odd(), "body": 5},
    "a body of null": {**odd(), "body": "null"},
    "a body of two": {**odd(), "body": "[[], {}]"},
    "a canvas that is none": {**odd(), "body": '[["odd"], {}, 5]'},
    "content-type": {**odd(), "content-type": [1]},
    "content-encoding": {**odd(), "content-encoding": {"a": 1}},
    "a deep body": {**odd(), "body": DEEP},
    "a deep envelope": f'{{"properties": {{}}, "headers": {DEEP}}}',
    "a deep text": DEEP,
    "a number with too many digits": {**odd(), "body": f"[[{'9' * 10_000}], {{}}, {{}}]"},
    "protocol 1 with retries alone": {**odd(), "headers": {}, "body": '{"retries": 0}'},
    "protocol 1 with an id's number": protocol_1(id=5),
    "protocol 1 with a surrogate": protocol_1(id=SURROGATE),
    "protocol 1 of depth": {**protocol_1(), "body": DEEP},
    "protocol 1 with kwargs' list": protocol_1(kwargs=[1]),
    "protocol 1 with a task's list": protocol_1(task=[1]),
    "protocol 1 with a timelimit": protocol_1(timelimit=5),
    "a pointer's number": '["software.amazon.payloadoffloading.PayloadS3Pointer", 5]',
}  # fmt: skip

#: Made by the tests alone: each worker process of a test run imports this module.
BOMBS: dict[str, Callable[[], Any]] = {
    "zlib": lambda: compressed(zlib.compress(bytes(70_000_000), 9), "zlib"),
    "bz2": lambda: compressed(bz2.compress(bytes(70_000_000), 9), "bzip2"),
    "lzma": lambda: compressed(lzma.compress(bytes(70_000_000)), "lzma"),
}

#: What a stock worker runs, runs.
RUN = {
    "an encoding that JSON does not need": {**odd(), "content-encoding": "utf-9"},
    "retries": odd(retries="x"),
    "retries of null": odd(retries=None),
    "retries of 1e999": json.dumps(odd(retries="R")).replace('"R"', "1e999"),
    "retries of NaN": odd(retries=float("nan")),
    "nesting": odd(replaced_task_nesting=[1]),
    "stamps of objects": odd(stamped_headers=["a"], stamps={"a": [{"b": 1}]}),
    "a surrogate in parent_id": odd(parent_id=SURROGATE),
    "a parent's object": odd(parent_id={"a": 1}),
    "a long parent": odd(parent_id=LONG),
    "a shadow's number": odd(shadow=5),
    "a timelimit without end": json.dumps(odd(timelimit=["R", None])).replace('"R"', "1e999"),
    "a group's number": odd(group=5),
    "a trace that is none": odd(twolane_request_id=5, twolane_trace_id=SURROGATE),
    "publication's number": odd(twolane_published_at=5),
    "argsrepr": odd(argsrepr={"a": [1]}, kwargsrepr=5),
    "a long argsrepr": odd(argsrepr="x" * 500_000),
    "a delivery tag's object": {**odd(), "properties": {"delivery_tag": {"a": 1}}},
    "a long delivery tag": {**odd(), "properties": {"delivery_tag": "x" * 500_000}},
    "delivery info": {**odd(), "properties": {"delivery_info": 5, "priority": [1]}},
    "no headers but two": {**odd(), "headers": {"task": "note", "id": "odd"}},
    "protocol 1": protocol_1(),
    "protocol 1 with retries": protocol_1(retries="x"),
    "protocol 1, bare": {**odd(), "headers": {}, "body": '{"task": "note", "id": "odd"}'},
    "protocol 1, compressed": {**compressed(zlib.compress(protocol_1()["body"].encode()), "zlib"),
                               "headers": {"compression": "zlib"}},
    "a hybrid": {**protocol_1(), "headers": {"task": "note"}},
    "an id beyond DynamoDB's keys": odd(id=LONG),
    "an id beyond DynamoDB's keys in UTF-8": odd(id="é" * 1_000),
    "an id at the key's end": odd(id="x" * 2_028),
}  # fmt: skip


@each_alone
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_returned_alone(lane: Lane, name: str) -> None:
    assert lane.run(once(REFUSED[name])) == {0: "returned"}


@each_alone
@pytest.mark.parametrize("name", BOMBS)
def test_what_is_too_large_decompressed_is_returned_alone(lane: Lane, name: str) -> None:
    assert lane.run(once(BOMBS[name]())) == {0: "returned"}


@each_alone
@pytest.mark.parametrize("name", RUN)
def test_what_a_stock_worker_runs_is_run(lane: Lane, name: str) -> None:
    assert lane.run(once(RUN[name])) == {0: "ran"}


def test_all_of_them_in_one_batch(lane: Lane) -> None:
    refused = [once(REFUSED[name]) for name in REFUSED]
    assert set(lane.run(*refused).values()) == {"returned"}
    lane.run(*[once(RUN[name]) for name in RUN])


@each_alone
@pytest.mark.parametrize(
    "lost",
    ["receiptHandle", "body", "eventSourceARN", "eventSource", "attributes", "messageAttributes"],
)
@pytest.mark.parametrize("value", [None, 5, [1], {"a": [1]}, SURROGATE])
def test_a_record_that_lacks_a_field(lane: Lane, lost: str, value: Any) -> None:
    one = once(odd())
    found = lane.run({**one, lost: value})[0]
    assert found == ("ran" if lost.endswith("ttributes") else "returned")


@each_alone
@pytest.mark.parametrize("one", [5, None, [], {}, {"eventSource": "aws:sqs"}, "x"])
def test_a_record_that_is_none_cannot_come_back(lane: Lane, one: Any) -> None:
    assert lane.run(one) == {0: "gone"}


@each_alone
@pytest.mark.parametrize(
    "attributes",
    [
        {"ApproximateReceiveCount": "x"},
        {"ApproximateReceiveCount": "9" * 9_999, "SentTimestamp": "x"},
        {"ApproximateReceiveCount": None, "ApproximateFirstReceiveTimestamp": [1]},
        {"MessageGroupId": ["a"]},
    ],
)
def test_attributes_of_another_kind(lane: Lane, attributes: dict[str, Any]) -> None:
    assert lane.run(once(odd(), attributes=attributes)) == {0: "ran"}


def test_a_result_under_a_long_id_is_found_again(lane: Lane) -> None:
    assert lane.run(once(RUN["an id beyond DynamoDB's keys"])) == {0: "ran"}
    assert lane.app.AsyncResult(LONG).state == "SUCCESS"
    assert lane.run(once(RUN["an id beyond DynamoDB's keys"])) == {0: "gone"}  # a copy


def test_a_task_with_a_long_id_can_be_revoked(lane: Lane) -> None:
    lane.app.control.revoke(LONG)
    assert lane.run(once(odd(id=LONG))) == {0: "gone"}
    assert lane.app.AsyncResult(LONG).state == "REVOKED"


words = st.sampled_from(
    ["", "x", "odd", "note", "a\ud800", LONG, "2026-01-01T00:00:00+00:00", "base64", "utf-8",
     "zlib", "application/json", "1"]
)  # fmt: skip
plain = st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=5)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
HEADERS = [
    "lang", "task", "id", "root_id", "parent_id", "group", "group_index", "retries", "timelimit",
    "argsrepr", "kwargsrepr", "origin", "shadow", "eta", "expires", "ignore_result",
    "replaced_task_nesting", "stamped_headers", "stamps", "compression", "meth", "utc",
    "twolane_request_id", "twolane_trace_id", "twolane_published_at", "hostname", "delivery_info",
]  # fmt: skip
PROPERTIES = [
    "correlation_id", "reply_to", "delivery_mode", "delivery_info", "priority", "body_encoding",
    "delivery_tag",
]  # fmt: skip
PARTS = ["body", "content-encoding", "content-type", "headers", "properties"]
FIELDS = ["receiptHandle", "body", "attributes", "messageAttributes", "eventSourceARN"]
ATTRIBUTES = [
    "ApproximateReceiveCount", "SentTimestamp", "ApproximateFirstReceiveTimestamp",
    "MessageGroupId",
]  # fmt: skip


@st.composite
def odd_records(draw: st.DrawFn) -> dict[str, Any]:
    """A record of a task in which one to three places hold anything."""
    old = draw(st.booleans())
    envelope = protocol_1() if old else odd()
    inner: Any = json.loads(envelope["body"])
    found = once("")
    for _ in range(draw(st.integers(1, 3))):
        value = draw(values)
        match draw(st.sampled_from(["header", "property", "part", "inner", "field", "attribute"])):
            case "header" if isinstance(envelope["headers"], dict):
                envelope["headers"][draw(st.sampled_from(HEADERS))] = value
            case "property" if isinstance(envelope["properties"], dict):
                envelope["properties"][draw(st.sampled_from(PROPERTIES))] = value
            case "part":
                envelope[draw(st.sampled_from(PARTS))] = value
            case "inner" if isinstance(inner, dict):
                inner[draw(st.sampled_from([*HEADERS, "args", "kwargs"]))] = value
                envelope["body"] = json.dumps(inner)
            case "inner" if isinstance(inner, list):
                inner[draw(st.integers(0, 2))] = value
                envelope["body"] = json.dumps(inner)
            case "field":
                found[draw(st.sampled_from(FIELDS))] = value
            case "attribute" if isinstance(found["attributes"], dict):
                found["attributes"][draw(st.sampled_from(ATTRIBUTES))] = value
            case _:
                pass
    if found["body"] == "":
        found["body"] = json.dumps(envelope)
    return found


quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
thorough = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(records=st.lists(odd_records(), min_size=1, max_size=4))
def test_any_value_anywhere_harms_its_own_record_only(
    lane: Lane, records: list[dict[str, Any]]
) -> None:
    lane.run(*records)


@pytest.mark.slow
@thorough
@given(records=st.lists(odd_records(), min_size=1, max_size=6))
def test_any_value_anywhere_harms_its_own_record_only_of_many(
    lane: Lane, records: list[dict[str, Any]]
) -> None:
    lane.run(*records)
