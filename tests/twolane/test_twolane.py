"""The package's face: lazy names, and no import that a function does not need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import twolane

if TYPE_CHECKING:
    from ..conftest import RunPython  # noqa: TID252


@pytest.mark.parametrize("name", twolane.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(twolane, name).__name__ == name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'twolane' has no attribute 'Nope'"):
        _ = twolane.Nope


@pytest.mark.parametrize(
    ("adapter", "absent"),
    [
        ("ApiHandler", ["boto3", "botocore", "kombu", "celery", "redis", "urllib3"]),
        ("WorkerHandler", ["boto3", "botocore", "fastapi", "mangum", "kombu.transport.SQS"]),
        ("BeatHandler", ["boto3", "botocore", "fastapi", "mangum", "kombu.transport.SQS"]),
    ],
)
def test_adapter_imports_only_what_it_needs(
    adapter: str, absent: list[str], run_python: RunPython
) -> None:
    code = (
        f"import sys; from twolane import {adapter}; "
        f"print([name for name in {absent!r} if name in sys.modules])"
    )
    assert run_python(code).strip() == "[]"
