"""The timer that keeps nothing: what Celery hands it is taken out with its delay."""

from __future__ import annotations

from kombu.asynchronous.timer import Entry as KombuEntry

from twolane.worker.consumer import Entry, Timer


def test_what_is_taken_knows_how_long_it_waits() -> None:
    timer = Timer(lambda: 100.0)
    timer.call_at(130.0, print, ("a",), priority=6)
    timer.call_after(-5, print)
    assert [delay for delay, _ in timer.take()] == [30.0, -5.0]
    assert timer.take() == []


def test_an_entry_calls_what_it_was_given() -> None:
    called: list[tuple[int, int]] = []
    timer = Timer(lambda: 0.0)
    timer.call_at(0, lambda a, b: called.append((a, b)), (1,), {"b": 2})
    ((_, entry),) = timer.take()
    entry()
    assert called == [(1, 2)]


def test_a_cancelled_entry_is_gone() -> None:
    timer = Timer(lambda: 0.0)
    kept, dropped = timer.call_after(1, print), timer.call_after(1, print)
    timer.cancel(dropped)
    assert [entry for _, entry in timer.take()] == [kept]


def test_nothing_is_left_after_a_stop() -> None:
    timer = Timer(lambda: 0.0)
    timer.call_after(1, print)
    timer.stop()
    assert timer.take() == []


def test_an_entry_has_what_celery_looks_for_on_kombus() -> None:
    ours, theirs = Entry(0.0, print, (1,)), KombuEntry(print, (1,))
    for name in ("fun", "args", "kwargs", "canceled", "cancel"):
        assert hasattr(theirs, name)
        assert hasattr(ours, name)
    assert (ours.args, dict(ours.kwargs)) == (theirs.args, theirs.kwargs)
