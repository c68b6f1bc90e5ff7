from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twolane.state.store import LIMIT, bounded

any_text = st.text(
    st.characters(codec=None) | st.sampled_from("\ud800\udfffé"), max_size=60
) | st.builds(str.__mul__, st.sampled_from(["x", "é", "\ud800", "😀"]), st.integers(0, 3_000))


@given(any_text)
def test_every_key_is_one_that_dynamodb_takes(key: str) -> None:
    assert 0 < len(bounded(key).encode()) <= LIMIT
    assert bounded(bounded(key)) == bounded(key)


@given(any_text, any_text)
def test_different_texts_stay_apart(one: str, other: str) -> None:
    assert (bounded(one) == bounded(other)) == (one == other)


@pytest.mark.parametrize("key", ["a", "twolane:lease:é", "x" * LIMIT, "é" * (LIMIT // 2)])
def test_a_key_that_fits_stays_as_it_is(key: str) -> None:
    assert bounded(key) == key


def test_a_long_key_keeps_its_head() -> None:
    assert bounded("twolane:lease:" + "x" * LIMIT).startswith("twolane:lease:xxx")
