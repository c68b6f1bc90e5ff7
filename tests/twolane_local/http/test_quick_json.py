from __future__ import annotations

import json
import math
from typing import Any

import pytest

from twolane_local.http import quick_json

VALUES: list[Any] = [
    None, True, 1, 1.5, "é\u2028\n\"\\", [], {}, {"a": [1, {"b": None}]}, 2**63, 2**80, -(2**70),
    "\ud800",
]  # fmt: skip


@pytest.fixture(params=["with orjson", "without"], autouse=True)
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without":
        monkeypatch.setattr(quick_json, "orjson", None)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_is_written_reads_the_same(value: Any) -> None:
    text = quick_json.dumps(value).decode("utf-8", "surrogatepass")
    assert json.loads(text) == value
    assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def test_what_json_reads_is_read() -> None:
    assert quick_json.loads(b'{"a":[1,2.5,"\xc3\xa9",null]}') == {"a": [1, 2.5, "é", None]}
    assert math.isnan(quick_json.loads(b"NaN"))


@pytest.mark.parametrize("data", [b"", b"{", b"{'a':1}", b"\xff"])
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (two libraries, two messages)
        quick_json.loads(data)
