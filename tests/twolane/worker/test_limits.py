from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from twolane.worker.limits import (
    Alarms,
    DeadlineReached,
    HardLimitReached,
    TaskTerminated,
    alarms_at_hand,
    limits,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def after(seconds: float, error: type[BaseException]) -> tuple[float, type[BaseException]]:
    return time.monotonic() + seconds, error


def wait_for_ever() -> None:
    threading.Event().wait(30)


def spin() -> None:
    while True:
        pass


def in_thread(run: Callable[[], object]) -> BaseException | None:
    caught: list[BaseException] = []

    def body() -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            caught.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    return caught[0] if caught else None


def test_a_wait_in_the_main_thread_is_interrupted() -> None:
    with pytest.raises(HardLimitReached), limits([after(0.05, HardLimitReached)]):
        wait_for_ever()


def test_limits_come_in_their_order() -> None:
    alarms: Alarms = [after(0.1, DeadlineReached), after(0.02, TimeoutError)]

    def twice() -> None:
        with suppress(TimeoutError):
            wait_for_ever()
        wait_for_ever()

    with pytest.raises(DeadlineReached), limits(alarms):
        twice()


def test_no_exception_handler_catches_a_hard_limit() -> None:
    def stubborn() -> None:
        while True:
            try:
                wait_for_ever()
            except Exception:  # noqa: BLE001 - what a careless task does
                continue

    with pytest.raises(HardLimitReached), limits([after(0.02, HardLimitReached)]):
        stubborn()


def test_nothing_is_raised_after_the_block() -> None:
    with limits([after(0.03, HardLimitReached)]):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert not threading.Event().wait(0.06)


def test_the_applications_own_handler_is_put_back() -> None:
    def own(*_: object) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGALRM, own)
    try:
        with limits([after(10, HardLimitReached)]):
            pass
        assert signal.getsignal(signal.SIGALRM) is own
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_running_block_is_interrupted_from_outside() -> None:
    def run() -> None:
        with limits([]) as interrupter:
            threading.Timer(0.03, interrupter.interrupt, args=[TaskTerminated]).start()
            wait_for_ever()

    with pytest.raises(TaskTerminated):
        run()


def test_another_thread_is_interrupted_between_bytecodes() -> None:
    def run() -> None:
        with limits([after(0.05, HardLimitReached)]):
            spin()

    assert isinstance(in_thread(run), HardLimitReached)


def test_another_thread_is_interrupted_from_outside() -> None:
    def run() -> None:
        with limits([]) as interrupter:
            threading.Timer(0.03, interrupter.interrupt, args=[TaskTerminated]).start()
            spin()

    assert isinstance(in_thread(run), TaskTerminated)


def test_another_thread_is_left_alone_after_the_block() -> None:
    def run() -> None:
        with limits([after(0.03, HardLimitReached)]) as interrupter:
            pass
        interrupter.interrupt(HardLimitReached)
        threading.Event().wait(0.06)

    assert in_thread(run) is None


def test_blocks_of_a_batch_share_the_timer_and_keep_their_own_limits() -> None:
    with alarms_at_hand():
        with limits([after(0.05, DeadlineReached)]):
            pass
        armed, _ = signal.getitimer(signal.ITIMER_REAL)
        assert armed > 0
        began = time.monotonic()
        with pytest.raises(HardLimitReached), limits([after(0.2, HardLimitReached)]):
            wait_for_ever()
        assert time.monotonic() - began >= 0.2  # the first block's alarm came in between
        with pytest.raises(TimeoutError), limits([after(0.02, TimeoutError), after(9, OSError)]):
            wait_for_ever()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_earlier_limit_moves_the_shared_timer_forward() -> None:
    with alarms_at_hand():
        with limits([after(20, DeadlineReached)]):
            pass
        with pytest.raises(HardLimitReached), limits([after(0.02, HardLimitReached)]):
            wait_for_ever()


def test_a_limit_that_is_over_before_it_begins_leaves_nothing_behind() -> None:
    with alarms_at_hand():
        with suppress(HardLimitReached), limits([after(-1, HardLimitReached)]):
            wait_for_ever()
        threading.Event().wait(0.02)  # nothing is raised out here


@pytest.mark.parametrize("when", ["off", "later", "taken"])
def test_a_block_that_used_the_timer_itself_leaves_the_next_one_its_limits(when: str) -> None:
    def task() -> None:
        if when == "taken":
            signal.signal(signal.SIGALRM, lambda *_: None)
        else:
            signal.setitimer(signal.ITIMER_REAL, {"off": 0, "later": 60}[when])

    at = after(0.3, DeadlineReached)
    with alarms_at_hand():
        with limits([at]):
            task()
        with pytest.raises(DeadlineReached), limits([at]):
            threading.Event().wait(3)


def test_a_batch_takes_back_a_signal_that_was_blocked() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    with alarms_at_hand(), pytest.raises(DeadlineReached):  # noqa: SIM117
        with limits([after(0.05, DeadlineReached)]):
            threading.Event().wait(3)
