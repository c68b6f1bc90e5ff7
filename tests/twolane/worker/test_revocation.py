"""What a revoke leaves in the store, and how a message finds it."""

from __future__ import annotations

import threading

import pytest

from twolane.state.memory import MemoryStore
from twolane.worker.lookup import (
    Revocation,
    read_revocation,
    remember,
    revoked_ids,
    revoked_key,
    stamp_key,
    stamp_keys,
    write_revocation,
)


@pytest.mark.parametrize("one", [Revocation(), Revocation(terminate=True, signal="SIGKILL")])
def test_a_revocation_is_read_as_it_was_written(one: Revocation) -> None:
    assert read_revocation(write_revocation(one)) == one


def test_what_an_older_version_wrote_is_read() -> None:
    assert read_revocation("{}") == Revocation(terminate=False, signal="SIGTERM")


def test_keys_are_of_their_own_kind() -> None:
    assert revoked_key("t1") == "twolane:revoked:t1"
    assert stamp_key("order", 42) == "twolane:revoked-stamp:order=42"


def test_every_stamp_could_be_revoked() -> None:
    assert stamp_keys([("order", "1"), ("order", 2)]) == {
        stamp_key("order", "1"): ("order", "1"),
        stamp_key("order", 2): ("order", 2),
    }
    assert stamp_keys(()) == {}


def test_the_list_for_inspect_fits_in_an_item_whatever_the_ids() -> None:
    store = MemoryStore()
    remember(store, [f"{number}-{'x' * 2000}" for number in range(1000)])
    kept = revoked_ids(store)
    assert 50 < len(kept) < 1000
    assert any(one.startswith("999-") for one in kept)


def test_the_list_for_inspect_holds_each_once_and_the_newest() -> None:
    store = MemoryStore()
    assert revoked_ids(store) == []
    for batch in range(20):
        remember(store, [f"t{batch}-{n}" for n in range(100)])
    remember(store, ["t19-0", "new"])
    listed = revoked_ids(store)
    assert len(listed) == len(set(listed)) == 1024
    assert set(listed[-2:]) == {"t19-0", "new"}
    assert "t0-0" not in listed


def test_two_at_once_are_both_on_the_list() -> None:
    store = MemoryStore()
    start = threading.Barrier(4)

    def revoke(name: str) -> None:
        start.wait(10)
        remember(store, [name])

    threads = [threading.Thread(target=revoke, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(revoked_ids(store)) == ["t0", "t1", "t2", "t3"]
