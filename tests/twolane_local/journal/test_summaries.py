from __future__ import annotations

from twolane_local.journal.filters import Filter
from twolane_local.journal.summaries import summaries


def request(journal, name, status=200, *, tasks=(), path="/x"):
    journal.record("request.received", request_id=name, method="GET", path=path)
    journal.record("invocation.started", request_id=name, function="Api", payload=b"{}")
    for kind in tasks:
        journal.record(kind, request_id=f"w-{name}", originRequestId=name, task_id=f"t-{name}")
    journal.record("request.answered", request_id=name, function="Api", status=status,
                   durationMs=5.0)  # fmt: skip


def test_the_latest_come_first_with_what_became_of_their_tasks(journal):
    request(journal, "a", tasks=("task.published", "task.retried", "task.published",
                                 "task.succeeded"))  # fmt: skip
    request(journal, "b", status=502)
    request(journal, "c", tasks=("task.published",))
    request(journal, "d", tasks=("task.published", "task.failed"))
    found = summaries(list(journal))
    assert [(each.id, each.state) for each in found] == [
        ("d", "failed"), ("c", "waiting"), ("b", "failed"), ("a", "ok"),
    ]  # fmt: skip
    assert found[3].tasks["retried"] == 1
    assert found[3].as_dict()["title"] == "GET /x"


def test_a_batch_belongs_to_what_published_it_and_a_question_to_nobody(journal):
    journal.record("batch.invoked", request_id="w", function="Worker", messageIds=["m"])
    journal.record("invocation.started", request_id="w", function="Worker", payload=b"{}")
    journal.record("invocation.started", request_id="q", payload=b'{"twolane": {"list": 5}}')
    journal.record("invocation.started", request_id="t", function="Beat", payload=b"{}")
    journal.record("tick", request_id="t", function="Beat")
    journal.record("invocation.ended", request_id="t", function="Beat", durationMs=3.0)
    found = summaries(list(journal))
    assert [(each.id, each.kind, each.state) for each in found] == [("t", "tick", "ok")]


def test_filters_and_pages(journal):
    for name in ("a", "b", "c"):
        request(journal, name, path=f"/{name}")
    events = list(journal)
    assert [each.id for each in summaries(events, limit=2)] == ["c", "b"]
    before = summaries(events)[0].seq
    assert [each.id for each in summaries(events, before=before)] == ["b", "a"]
    assert [each.id for each in summaries(events, Filter(text="/B"))] == ["b"]
    assert summaries(events, Filter(state="failed")) == []
    assert [each.id for each in summaries(events, Filter(id="c"))] == ["c"]


def test_a_request_that_is_not_answered_runs(journal):
    journal.record("request.received", request_id="r", method="GET", path="/")
    assert summaries(list(journal))[0].state == "running"
