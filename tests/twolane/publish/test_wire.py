from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any

import pytest

from twolane.publish.target import Endpoint
from twolane.publish.wire import IDLE_S, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def wire(scripted: Any, now: list[float]) -> Iterator[Wire]:
    wire = Wire(Endpoint.of(scripted.url), monotonic=lambda: now[0])
    yield wire
    wire.close()


def post(wire: Wire) -> tuple[int, bytes]:
    return wire.post({"host": "q"}, b"{}", timeout_s=5)


def connections(scripted: Any) -> int:
    return len({seen.connection for seen in scripted.seen})


def test_a_connection_is_kept(wire: Wire, scripted: Any) -> None:
    assert post(wire) == (200, b'{"MessageId": "m"}')
    assert post(wire) == (200, b'{"MessageId": "m"}')
    assert connections(scripted) == 1


def test_a_connection_that_idled_too_long_is_opened_anew(
    wire: Wire, scripted: Any, now: list[float]
) -> None:
    post(wire)
    now[0] += IDLE_S + 1
    post(wire)
    assert connections(scripted) == 2


def test_a_connection_that_the_server_closed_meanwhile_is_noticed_before_it_is_used(
    wire: Wire, scripted: Any
) -> None:
    """As after a freeze: the FIN arrived while nobody looked."""
    scripted.hang_up_after_answer = True
    post(wire)
    assert scripted.hung_up.wait(5)
    scripted.hang_up_after_answer = False
    assert post(wire)[0] == 200
    assert (len(scripted.seen), connections(scripted)) == (2, 2)


def test_a_lost_answer_is_an_error_and_the_next_request_starts_anew(
    wire: Wire, scripted: Any
) -> None:
    scripted.will(None)
    with pytest.raises(http.client.RemoteDisconnected):
        post(wire)
    assert post(wire)[0] == 200
