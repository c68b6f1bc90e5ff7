from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from twolane_local.cli.flags import SETS, json_flag, yes_flag

if TYPE_CHECKING:
    import pytest


def taken(name: str) -> set[str]:
    return {flag for action in SETS[name]()._actions for flag in action.option_strings}


def test_each_set_has_flags_of_its_own_kind() -> None:
    assert taken("template") == {
        "--template", "--parameter", "--parameter-file", "--config-env",
    }  # fmt: skip
    assert taken("emulator") == {
        "--redis-url", "--import", "--in-process", "--allow-real-aws", "--stack-name",
    }  # fmt: skip
    assert taken("source") == {"--template", "--stack", "--region", "--profile", "--json"}


def test_a_redis_of_the_environment_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://here")
    assert SETS["emulator"]().parse_args([]).redis_url == "redis://here"
    monkeypatch.setenv("REDIS_URL", "")
    assert SETS["emulator"]().parse_args([]).redis_url is None


def test_yes_and_json_are_off_unless_given() -> None:
    parser = argparse.ArgumentParser()
    json_flag(parser)
    yes_flag(parser)
    assert vars(parser.parse_args([])) == {"json": False, "yes": False}
