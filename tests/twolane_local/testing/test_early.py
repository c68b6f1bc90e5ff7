"""The environment before collection."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from twolane_local.model import FunctionSpec, Stack
from twolane_local.testing import early
from twolane_local.testing.project import Project

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_it_sets_variables_credentials_and_path(
    tmp_path: Path, own_environ: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(early, "prepared", [])
    spec = FunctionSpec("Api", "Api", "a.handler", tmp_path, environment={"SHOP": "open"})
    project = Project(Stack("local", (spec,)))
    early.prepare(project)
    assert (os.environ["SHOP"], os.environ["AWS_ACCESS_KEY_ID"]) == ("open", "local")
    assert sys.path[0] == str(tmp_path)
    assert early.prepared == [early.key_of(project)]
    # Lambda's own variables are those of an invocation.
    assert "AWS_LAMBDA_FUNCTION_NAME" not in os.environ
