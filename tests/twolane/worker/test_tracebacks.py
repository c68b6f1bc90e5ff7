from __future__ import annotations

import pickle
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from billiard import einfo

from twolane.patches import tracing as tracebacks

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType


@pytest.fixture(autouse=True)
def stock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """billiard as it is before a worker was made, and after the test."""
    frame = vars(einfo)["_Frame"]
    monkeypatch.setattr(frame, "Code", vars(einfo)["_Code"])
    monkeypatch.setattr(einfo, "traceback", traceback)
    return frame


def fail(depth: int) -> None:
    if depth:
        fail(depth - 1)
    raise ValueError("deep")


def failure() -> einfo.ExceptionInfo:
    try:
        fail(3)
    except ValueError:
        return einfo.ExceptionInfo()
    raise AssertionError


def codes(info: Any) -> list[Any]:
    found, trace = [], info.tb
    while trace is not None:
        found.append(trace.tb_frame.f_code)
        trace = trace.tb_next
    return found


def test_a_functions_code_is_copied_once() -> None:
    tracebacks.keep_tracebacks()
    tracebacks.keep_tracebacks()
    first, second = codes(failure()), codes(failure())
    assert len(first) == 5
    assert len({id(code) for code in first}) == 2  # this module's two functions
    assert [id(code) for code in first] == [id(code) for code in second]


def test_what_celery_hands_on_is_as_it_was() -> None:
    before = failure()
    tracebacks.keep_tracebacks()
    after = failure()
    sent: Any = pickle.loads(pickle.dumps(after.tb))
    shown = ["".join(traceback.format_tb(tb)) for tb in (before.tb, after.tb, sent)]
    assert shown[0] == shown[1] == shown[2]
    assert shown[0].count("in fail\n") == 4
    assert before.traceback == after.traceback
    kept, copied = codes(after)[-1], codes(before)[-1]
    assert list(kept.co_positions()) == list(copied.co_positions())


def plain() -> None:
    [1].index(2) + 1


def with_a_note() -> None:
    error = ValueError("noted")
    error.add_note("look here")
    raise error


def with_a_cause() -> None:
    try:
        plain()
    except ValueError as error:
        raise KeyError("late") from error


def in_a_handler() -> None:
    try:
        plain()
    except ValueError:
        raise KeyError("late")  # noqa: B904 - its context is what is tested


def suppressed() -> None:
    try:
        plain()
    except ValueError:
        raise KeyError("late") from None


def in_a_group() -> None:
    raise ExceptionGroup("many", [ValueError("one"), KeyError("two")])


def misspelt() -> None:
    compile("1 +", "<text>", "exec")


def repeated() -> None:
    fail(9)


def repeated_in_two_places() -> None:
    def down(depth: int) -> int:
        return (down(depth - 1) if depth % 2 else 1 + down(depth - 1)) if depth else 1 // depth

    down(9)


@pytest.mark.parametrize(
    "work",
    [
        plain,
        with_a_note,
        with_a_cause,
        in_a_handler,
        suppressed,
        in_a_group,
        misspelt,
        repeated,
        repeated_in_two_places,
    ],
)
def test_the_text_is_pythons_own(work: Callable[[], None]) -> None:
    texts = tracebacks.Texts()
    for _ in range(2):
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is
            expected = "".join(traceback.format_exception(error))
            given = texts.format_exception(type(error), error, error.__traceback__)
            assert "".join(given) == expected
        else:
            raise AssertionError


def test_two_places_of_one_function_are_told_apart() -> None:
    def one_of(number: int) -> float:
        if number:
            return 1 / (number - number)
        return [0.0][number + 1]

    texts, seen = tracebacks.Texts(), set()
    for number in (0, 1, 0, 1):
        try:
            one_of(number)
        except (ZeroDivisionError, IndexError) as error:
            expected = "".join(traceback.format_exception(error))
            given = "".join(texts.format_exception(type(error), error, error.__traceback__))
            seen |= {given, expected}
    assert len(seen) == 2


def test_without_a_traceback_it_is_the_error_alone() -> None:
    given = tracebacks.Texts().format_exception(ValueError, ValueError("bare"), None)
    assert given == ["ValueError: bare\n"]


def test_it_forgets_when_there_are_too_many() -> None:
    copied: list[str] = []

    def name_of(code: CodeType) -> str:
        copied.append(code.co_name)
        return code.co_name

    copy = tracebacks.kept(name_of)
    many = [compile(f"def f{number}(): pass", "<test>", "exec") for number in range(200)]
    for code in many * 2:
        assert copy(code) == "<module>"
    assert 200 < len(copied) <= 400
    copy(many[-1])
    assert len(copied) <= 400
