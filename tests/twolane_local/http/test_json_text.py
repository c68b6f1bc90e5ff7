from __future__ import annotations

import json
from typing import Any

import pytest

from twolane_local.http import json_text

VALUES: list[Any] = [
    None, True, 1, 1.5, "é\u2028\n\"\\", [], {}, {"a": [1, {"b": None}]}, 2**63, 2**80, -(2**70),
    "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_is_written_reads_the_same(value: Any) -> None:
    text = json_text.dumps(value).decode("utf-8", "surrogatepass")
    assert json.loads(text) == value
    assert "\\u00e9" not in text


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_text_of_json_is_utf_8(value: Any) -> None:
    text = json_text.utf8(json.dumps(value, ensure_ascii=False)).decode("utf-8")
    assert json.loads(text) == value
