from __future__ import annotations

import pickle
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from billiard import einfo

from twolane.worker import tracebacks

if TYPE_CHECKING:
    from types import CodeType


@pytest.fixture(autouse=True)
def stock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """billiard as it is before a worker was made, and after the test."""
    frame = vars(einfo)["_Frame"]
    monkeypatch.setattr(frame, "Code", vars(einfo)["_Code"])
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
    tracebacks.install()
    tracebacks.install()
    first, second = codes(failure()), codes(failure())
    assert len(first) == 5
    assert len({id(code) for code in first}) == 2  # this module's two functions
    assert [id(code) for code in first] == [id(code) for code in second]


def test_what_celery_hands_on_is_as_it_was() -> None:
    before = failure()
    tracebacks.install()
    after = failure()
    sent: Any = pickle.loads(pickle.dumps(after.tb))
    shown = ["".join(traceback.format_tb(tb)) for tb in (before.tb, after.tb, sent)]
    assert shown[0] == shown[1] == shown[2]
    assert shown[0].count("in fail\n") == 4
    assert before.traceback == after.traceback
    kept, copied = codes(after)[-1], codes(before)[-1]
    assert list(kept.co_positions()) == list(copied.co_positions())


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
