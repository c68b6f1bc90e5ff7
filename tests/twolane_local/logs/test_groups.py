from __future__ import annotations

import re
from typing import TYPE_CHECKING

from twolane_local.aws.logs import groups
from twolane_local.aws.logs.groups import Groups, stream_name

if TYPE_CHECKING:
    import pytest

    from ..conftest import HandClock  # noqa: TID252


def test_the_last_events_are_kept(clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "EVENTS", 3)
    group = Groups(clock.time).group("/g")
    stream = group.stream("s")
    for number in range(5):
        group.put(stream, b"%d" % number)
    assert [event.message for event in group.select(None, 0, 1 << 62)] == ["2", "3", "4"]
    assert group.bytes == 3 * (groups.OVERHEAD + 1)


def test_bytes_and_streams_are_bounded(clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "BYTES", 300)
    monkeypatch.setattr(groups, "STREAMS", 2)
    group = Groups(clock.time).group("/g")
    for name in "abc":
        group.put(group.stream(name), b"x" * 100)
    assert [event.stream for event in group.select(None, 0, 1 << 62)] == ["b", "c"]
    assert list(group.streams) == ["b", "c"]


def test_a_line_is_made_when_it_is_read(clock: HandClock) -> None:
    made: list[int] = []

    def line() -> bytes:
        made.append(1)
        return b"/code/x"

    environment = Groups(clock.time)
    environment.environment("/g", "s").put(line, lambda text: text.replace(b"/code", b"/var/task"))
    assert made == []
    group = environment.get("/g")
    assert group is not None
    assert [event.message for event in group.since(0)] == ["/var/task/x"]


def test_events_are_in_the_order_of_their_times(clock: HandClock) -> None:
    group = Groups(clock.time).group("/g")
    stream = group.stream("s")
    for at in (3, 1, 2, 1):
        group.put(stream, b"%d" % at, at)
    found = group.select(("s",), 1, 2)
    assert [event.at for event in found] == [1, 1, 2]
    assert [event.id for event in found] == sorted(event.id for event in found)
    assert (stream.first, stream.last) == (1, 3)


def test_names_of_streams() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html"""
    assert re.fullmatch(
        r"2026/01/01/\[\$LATEST\][0-9a-f]{32}", stream_name(1_767_225_600, "$LATEST")
    )
    shared = stream_name(1_767_225_600, "1", "fn")
    assert re.fullmatch(r"2026/01/01/fn\[1\]\[[0-9a-f]{32}\]", shared)
