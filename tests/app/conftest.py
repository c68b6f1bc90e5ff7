"""The application under test takes its settings from a clean environment."""

from __future__ import annotations

import base64
import importlib
import json
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery

ROOT = Path(__file__).parents[2]
EVENTS = ROOT / "events"


@pytest.fixture(autouse=True)
def _clean_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from app.settings import Settings, get_settings

    for field in Settings.model_fields:
        monkeypatch.delenv(field, raising=False)
        monkeypatch.delenv(field.upper(), raising=False)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Iterator[Application]:
    """The application's modules, imported anew on an empty Redis and put away afterwards."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if is_ours(name)}
    api = importlib.import_module("app.api")
    try:
        yield Application(api.handler, importlib.import_module("app.tasks").celery)
    finally:
        api.handler.close()
        for name in [name for name in sys.modules if is_ours(name)]:
            del sys.modules[name]
        sys.modules.update(before)


def is_ours(name: str) -> bool:
    return name == "app" or name.startswith("app.")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    json: Any


@dataclass(frozen=True)
class Application:
    """The API's handler, called as Lambda calls it; and the Celery application behind it."""

    handler: Callable[[dict[str, Any], object], dict[str, Any]]
    celery: Celery

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        event = json.loads((EVENTS / "api-healthz.json").read_text())
        event["rawPath"] = event["requestContext"]["http"]["path"] = path
        event["requestContext"]["http"]["method"] = method
        event["headers"] |= headers or {}
        if body is not None:
            event["headers"]["content-type"] = content_type
            event["body"] = body if isinstance(body, str) else json.dumps(body)
        answer = self.handler(event, None)
        text = answer["body"]
        content = base64.b64decode(text) if answer["isBase64Encoded"] else text
        return Answer(answer["statusCode"], answer["headers"], json.loads(content))
