from __future__ import annotations

import socket
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from twolane_local.checks import doctor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def port() -> Iterator[int]:
    """Something listens there."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield int(server.getsockname()[1])


@pytest.fixture
def nobody() -> int:
    """Nothing listens there."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def test_the_active_environment_is_the_one_that_runs(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert [each.level for each in doctor.check_venv({}, str(tmp_path))] == ["ok"]
    assert [
        each.level for each in doctor.check_venv({"VIRTUAL_ENV": str(link)}, str(tmp_path))
    ] == ["ok"]
    (stale,) = doctor.check_venv({"VIRTUAL_ENV": "/elsewhere"}, str(tmp_path))
    assert stale.level == "warning"
    assert "/elsewhere is active" in stale.what


def test_packages_that_are_missing_or_too_old_are_named() -> None:
    def version(name: str) -> str:
        if name == "gone":
            raise metadata.PackageNotFoundError(name)
        return "1.4"

    required = [
        "here>=1.2", "old>=2", "gone>=1", "elsewhere; sys_platform == 'nowhere'",
        "extra>=9; extra == 'test'", 'local>=1; extra == "local"',
    ]  # fmt: skip
    found = list(doctor.check_packages(required, version))
    assert [(each.level, each.what) for each in found] == [
        ("error", "old>=2 is required, 1.4 is installed"),
        ("error", "gone>=1 is missing"),
    ]
    assert [each.level for each in doctor.check_packages(["here>=1"], version)] == ["ok"]


def test_the_packages_of_this_environment_are_those_that_are_wanted() -> None:
    assert [each.what for each in doctor.check_packages() if each.level != "ok"] == []


@pytest.mark.parametrize(
    ("variables", "level"),
    [
        ({}, "ok"),
        ({"AWS_PROFILE": "work"}, "note"),
        ({"AWS_ACCESS_KEY_ID": "AKIA…"}, "note"),
        ({"AWS_ACCESS_KEY_ID": "local"}, "ok"),
        ({"AWS_ENDPOINT_URL": "https://proxy.example"}, "warning"),
    ],
)
def test_aws_settings(variables: dict[str, str], level: str) -> None:
    (finding,) = doctor.check_aws(variables)
    assert finding.level == level
    assert "AKIA…" not in finding.what


def test_an_endpoint_of_this_machine_must_answer(port: int, nobody: int) -> None:
    (up,) = doctor.check_aws({"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"})
    (down,) = doctor.check_aws({"AWS_ENDPOINT_URL": f"http://127.0.0.1:{nobody}"})
    assert (up.level, down.level) == ("ok", "warning")
    assert "nothing answers" in down.what


def test_a_redis_that_is_named_must_answer(port: int, nobody: int) -> None:
    assert list(doctor.check_redis_url({})) == []
    (up,) = doctor.check_redis_url({"REDIS_URL": f"redis://:geheim@127.0.0.1:{port}/0"})
    (down,) = doctor.check_redis_url({"REDIS_URL": f"redis://:geheim@127.0.0.1:{nobody}/0"})
    assert (up.level, down.level) == ("ok", "error")
    assert "geheim" not in up.what + down.what + down.remedy
