from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from twolane_local.checks import doctor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twolane_local.checks.doctor import CheckResult


def levels(findings: Iterable[CheckResult]) -> list[str]:
    found = list(findings)
    assert all(bool(each.remedy) == (each.level != "ok") for each in found)
    return [each.level for each in found]


@pytest.mark.parametrize(
    ("version", "level"),
    [((3, 10), "error"), ((3, 11), "ok"), ((3, 14), "ok"), ((3, 15), "warning")],
)
def test_python(version: tuple[int, int], level: str) -> None:
    assert levels(doctor.check_python(version)) == [level]


def test_redis() -> None:
    assert levels(doctor.check_redis(lambda name: f"/bin/{name}")) == ["ok"]
    assert levels(doctor.check_redis(lambda name: None)) == ["note"]


@pytest.mark.parametrize(
    ("platform", "has", "level"),
    [("linux", True, "ok"), ("linux", False, "error"), ("darwin", True, "warning")],
)
def test_runtime_client(platform: str, has: bool, level: str) -> None:
    found = doctor.check_runtime_client(platform, lambda name: True if has else None)
    assert levels(found) == [level]


def test_sam_builds_with_the_very_runtime() -> None:
    def which(*there: str) -> object:
        return lambda name: name if name in there else None

    assert levels(doctor.check_sam(["python3.13"], which())) == ["note"]  # type: ignore[arg-type]
    both = which("sam", "python3.13")
    assert levels(doctor.check_sam(["python3.13"] * 2, both)) == ["ok"]  # type: ignore[arg-type]
    (missing,) = doctor.check_sam(["python3.13", "python3.12"], both)  # type: ignore[arg-type]
    assert missing.level == "warning"
    assert "python3.12" in missing.what


def test_ports() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (finding,) = doctor.check_free_ports([port])
        assert finding.level == "warning"
        assert f"port {port} is in use" in finding.what
        (ours,) = doctor.check_free_ports([port], running=["http://127.0.0.1:1"])
        assert ours.level == "ok"
    assert levels(doctor.check_free_ports([0])) == ["ok"]
