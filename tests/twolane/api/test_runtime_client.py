"""Where we listen in ``awslambdaric``, and what is done where there is nothing to hear."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from twolane.patches import serving

NAME = "awslambdaric.lambda_runtime_client"


def _module(monkeypatch: pytest.MonkeyPatch, **classes: type) -> None:
    module = types.ModuleType(NAME)
    vars(module).update(classes)
    monkeypatch.setitem(sys.modules, NAME, module)


def _client(calls: list[Any]) -> type:
    class Client:
        def post_invocation_result(
            self,
            invoke_id: str,
            result: str,
            content_type: str = "application/json",
            invocation_id: str | None = None,
        ) -> str:
            calls.append(("result", invoke_id, result, content_type, invocation_id))
            return "posted"

        def post_invocation_error(self, invoke_id: str, error: str, xray: str) -> None:
            calls.append(("error", invoke_id))
            raise OSError("connection reset")

    return Client


@pytest.mark.parametrize("name", ["BaseLambdaRuntimeClient", "LambdaRuntimeClient"])
def test_a_post_is_told_after_it_was_made(monkeypatch, name) -> None:
    calls: list[Any] = []
    client = _client(calls)
    _module(monkeypatch, **{name: client})

    assert serving.listen(lambda request_id: calls.append(("told", request_id)))
    assert client().post_invocation_result("a", "{}", "text/plain", "i") == "posted"
    assert calls == [("result", "a", "{}", "text/plain", "i"), ("told", "a")]


def test_a_post_that_fails_is_told_too(monkeypatch) -> None:
    calls: list[Any] = []
    client = _client(calls)
    _module(monkeypatch, LambdaRuntimeClient=client)

    assert serving.listen(lambda request_id: calls.append(("told", request_id)))
    with pytest.raises(OSError, match="connection reset"):
        client().post_invocation_error(invoke_id="a", error="{}", xray="{}")
    assert calls == [("error", "a"), ("told", "a")]


def test_without_the_runtime_in_the_process_there_is_nothing_to_hear(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    assert not serving.listen(lambda request_id: None)
    assert NAME not in sys.modules, "it must not be imported: that costs every cold start"


@pytest.mark.parametrize(
    "client",
    [
        None,
        type("Client", (), {"post_invocation_result": lambda self: None}),
        type("Client", (), {"post_invocation_result": 1, "post_invocation_error": 2}),
    ],
)
def test_a_runtime_of_another_shape_is_left_alone(monkeypatch, client) -> None:
    """A future ``awslambdaric`` may differ; work then ends before the handler returns."""
    _module(monkeypatch, **({} if client is None else {"BaseLambdaRuntimeClient": client}))
    before = dict(vars(client)) if client else None
    assert not serving.listen(lambda request_id: None)
    assert client is None or dict(vars(client)) == before


def test_the_installed_awslambdaric_has_what_we_listen_to() -> None:
    module = pytest.importorskip(NAME, reason="awslambdaric has wheels for Linux only")
    for method in ("post_invocation_result", "post_invocation_error"):
        assert callable(getattr(module.BaseLambdaRuntimeClient, method))
        assert method not in vars(module.LambdaRuntimeClient), "an override would go unheard"
