from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from twolane_local.remote.emulator import NotRunningError, Running, announced, choose, find, folder


def running(pid=None, template="/t.yaml", started_at=1.0):
    return Running(pid or os.getpid(), "http://127.0.0.1:1", "token", "s", template, started_at)


def test_the_file_is_there_meanwhile_and_for_its_user_alone(tmp_path):
    where = tmp_path / "run"
    with announced(running(), where) as path:
        assert find(where) == [running()]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(where.stat().st_mode) == 0o700
    assert find(where) == []


def test_what_a_killed_one_left_is_removed(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    left = tmp_path / f"{child.pid}.json"
    left.write_text(json.dumps(running(child.pid).as_dict()))
    (tmp_path / "half.json").write_text('{"pid": 1')
    assert find(tmp_path) == []
    assert not left.exists()


def test_the_folder_follows_the_xdg_specification():
    assert folder({"XDG_RUNTIME_DIR": "/run/me"}) == Path("/run/me/twolane")
    assert folder({"XDG_CACHE_HOME": "/c", "HOME": "/h"}) == Path("/c/twolane/run")
    assert folder({"HOME": "/h"}) == Path("/h/.cache/twolane/run")


def test_the_one_with_the_template_is_chosen_or_the_only_one(tmp_path):
    template = tmp_path / "template.yaml"
    mine, other = running(template=str(template)), running(template="/other.yaml", started_at=2.0)
    assert choose([other, mine], template) == mine
    assert choose([other], template) == other
    with pytest.raises(NotRunningError, match="start one with"):
        choose([], template)
    with pytest.raises(NotRunningError, match="2 emulators run"):
        choose([other, running(template="/third.yaml")], template)
