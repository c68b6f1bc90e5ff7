from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from twolane_local.errors import LocalError
from twolane_local.remote import source_for
from twolane_local.remote.emulator import NotRunningError, Running, announced, folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def running(template: Path, pid: int | None = None) -> Running:
    return Running(pid or os.getpid(), "http://127.0.0.1:9", "t", "local", str(template), 1.0)


def given(**flags: str | Path | None) -> argparse.Namespace:
    return argparse.Namespace(**{"stack": None, "region": None, "profile": None,
                                 "template": None, **flags})  # fmt: skip


def test_nothing_runs(here: Path) -> None:
    with pytest.raises(NotRunningError, match="twolane up"):
        source_for(given())


def test_the_emulator_of_this_directory(here: Path) -> None:
    template = here / "template.yaml"
    template.touch()
    with announced(running(template), folder()):
        source = source_for(given())
    assert source.where == f"the emulator of {template}"
    assert not source.real


@pytest.mark.parametrize(
    ("files", "runs"),
    [
        ({"template.yml": "{}"}, "template.yml"),
        (
            {
                "samconfig.toml": "[default.global.parameters]\ntemplate_file = 'infra/shop.yml'",
                "infra/shop.yml": "{}",
            },
            "infra/shop.yml",
        ),
        ({"cdk.json": "{}"}, "cdk.out/Shop.template.json"),  # one of several stacks, say
        # It was the newest when it was started.
        ({".aws-sam/build/template.yaml": "{}", "template.yaml": "{}"},
         ".aws-sam/build/template.yaml"),
    ],
    ids=["yml", "samconfig", "cdk", "build"],
)  # fmt: skip
def test_the_emulator_of_this_project_among_others(
    here: Path, files: dict[str, str], runs: str
) -> None:
    for name, text in files.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(text)
    other = running(Path("/elsewhere/template.yaml"), os.getppid())
    with announced(other, folder()), announced(running(here / runs), folder()):
        assert source_for(given()).where == f"the emulator of {here / runs}"
        with pytest.raises(NotRunningError, match="2 emulators run"):
            source_for(given(template=here / "third.yaml"))


def test_a_stack_needs_a_region(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(LocalError, match="--region"):
        source_for(given(stack="shop"))
