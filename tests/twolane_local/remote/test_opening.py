from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

import pytest

from twolane_local.errors import LocalError
from twolane_local.remote import open_source
from twolane_local.remote.address import NotRunningError, Running, announced, folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def running(template: Path) -> Running:
    return Running(os.getpid(), "http://127.0.0.1:9", "t", "local", str(template), 1.0)


def given(**flags: str | None) -> argparse.Namespace:
    return argparse.Namespace(**{"stack": None, "region": None, "profile": None,
                                 "template": None, **flags})  # fmt: skip


def test_nothing_runs(here: Path) -> None:
    with pytest.raises(NotRunningError, match="twolane up"):
        open_source(given())


def test_the_emulator_of_this_directory(here: Path) -> None:
    template = here / "template.yaml"
    template.touch()
    with announced(running(template), folder()):
        source = open_source(given())
    assert source.where == f"the emulator of {template}"
    assert not source.real


def test_a_stack_needs_a_region(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(LocalError, match="--region"):
        open_source(given(stack="shop"))
