"""The interpreter for a template's version of Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.aws.lambda_.interpreters import on_path

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pyenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two versions, and the shims of both: a shim that is run fails the test by its mark."""
    root = tmp_path / "pyenv"
    shim = f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 127\n"
    programs = {"shims/python3.98": shim, "shims/python3.99": shim}
    programs |= {f"versions/3.{minor}.1/bin/python3.{minor}": "#!/bin/sh\n" for minor in (98, 99)}
    for name, text in programs.items():
        program = root / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    work = tmp_path / "work" / "inner"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    monkeypatch.setenv("PATH", f"{root}/shims")
    monkeypatch.delenv("PYENV_VERSION", raising=False)
    return root


def test_only_what_pyenv_has_selected_is_there(
    pyenv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python98, python99 = (f"{pyenv}/versions/3.{n}.1/bin/python3.{n}" for n in (98, 99))
    assert on_path("3.99") is None
    (pyenv / "version").write_text("3.98.1\n")
    assert (on_path("3.98"), on_path("3.99")) == (python98, None)
    (tmp_path / "work" / ".python-version").write_text("# ours\n3.99\n3.98.1\n")
    assert (on_path("3.98"), on_path("3.99")) == (python98, python99)
    monkeypatch.setenv("PYENV_VERSION", "system:3.98.1")
    assert (on_path("3.98"), on_path("3.99")) == (python98, None)
    assert not (tmp_path / "ran").exists()


def test_system_is_the_rest_of_the_path(
    pyenv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "bin" / "python3.99"
    system.parent.mkdir()
    (pyenv / "versions/3.99.1/bin/python3.99").rename(system)
    monkeypatch.setenv("PATH", f"{pyenv}/shims:{system.parent}")
    assert on_path("3.99") == str(system)
