"""The plain client in a real child process from which AWS's is hidden."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws import guard
from twolane_local.aws.lambda_.functions import Functions
from twolane_local.aws.lambda_.isolated import IsolatedEnvironment
from twolane_local.aws.lambda_.launchers import ForkLauncher
from twolane_local.aws.lambda_.process import Launcher, SpawnLauncher
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twolane_local.aws.lambda_.environment import Environment, Owner

#: Found in a layer's folder, before the handler: what macOS lacks, hidden.
HIDE = "import sys; sys.modules['awslambdaric'] = None\n"
HANDLER = """
import logging, os, sys
assert "awslambdaric.bootstrap" not in sys.modules

def handler(event, context):
    logging.getLogger().warning("said %s", event)
    if "raise" in event: raise ValueError(event["raise"])
    if "strange" in event: return object()
    if "trace" in event: return os.environ["_X_AMZN_TRACE_ID"]
    return {"id": context.aws_request_id, "left": context.get_remaining_time_in_millis(),
            "name": context.function_name, "arn": context.invoked_function_arn, "text": "\\u00e9"}
"""

either = pytest.mark.parametrize("launcher", [SpawnLauncher, ForkLauncher])


def run(
    folder: Path, launcher: Callable[[], Launcher], script: Any, code: str = HANDLER
) -> list[Any]:
    """The journal's events at the end."""
    (folder / "module.py").write_text(code)
    layer = folder / "layer"
    (layer / "python").mkdir(parents=True)
    (layer / "python" / "sitecustomize.py").write_text(HIDE)
    journal = Journal(SystemClock())

    async def main() -> None:
        starts = launcher()

        def make(spec: FunctionSpec, owner: Owner) -> Environment:
            environ = guard.function_environment(spec, endpoint_url="http://127.0.0.1:1")
            return IsolatedEnvironment(spec, environ, owner=owner, launcher=starts, journal=journal)

        spec = FunctionSpec("fn", "Fn", "module.handler", folder, timeout_s=5, layer_dirs=(layer,))
        functions = Functions([spec], make, journal)
        try:
            await script(functions)
        finally:
            await functions.close()
            await starts.close()

    asyncio.run(main())
    return list(journal)


@either
def test_invocations(tmp_path: Path, launcher: Callable[[], Launcher]) -> None:
    async def script(functions: Functions) -> None:
        for number in range(3):
            outcome = await functions.invoke("fn", b'{"n": 1}', request_id=f"r-{number}")
            result = json.loads(outcome.payload)
            assert (result["id"], result["name"], result["text"]) == (f"r-{number}", "fn", "é")
            assert result["arn"].endswith(":function:fn")
            assert 4000 < result["left"] <= 5000
        outcome = await functions.invoke("fn", b'{"trace": 1}')
        assert json.loads(outcome.payload).startswith("Root=1-")

    events = run(tmp_path, launcher, script)
    lines = [(event.request_id, event.data["line"]) for event in events if event.kind == "log"]
    assert lines[0][0] == "r-0"
    assert lines[0][1].startswith("[WARNING]\t")
    assert lines[0][1].endswith("Z\tr-0\tsaid {'n': 1}")


def test_errors_are_shaped_as_on_lambda(tmp_path: Path) -> None:
    async def script(functions: Functions) -> None:
        outcome = await functions.invoke("fn", b'{"raise": "bad"}')
        error = json.loads(outcome.payload)
        assert (outcome.error, error["errorType"], error["errorMessage"]) == (
            "Unhandled", "ValueError", "bad",
        )  # fmt: skip
        assert len(error["stackTrace"]) == 1
        assert "module.py" in error["stackTrace"][0]
        outcome = await functions.invoke("fn", b'{"strange": 1}')
        assert json.loads(outcome.payload)["errorType"] == "TypeError"
        assert (await functions.invoke("fn", b"{}")).error is None

    run(tmp_path, SpawnLauncher, script)


@either
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("import nothing_there", "Runtime.ImportModuleError"),
        ("other = 1", "Runtime.HandlerNotFound"),
        ("raise RuntimeError('x')", "RuntimeError"),
    ],
)
def test_init_failures(
    tmp_path: Path, launcher: Callable[[], Launcher], code: str, kind: str
) -> None:
    async def script(functions: Functions) -> None:
        outcome = await functions.invoke("fn", b"{}")
        assert json.loads(outcome.payload)["errorType"] == kind

    run(tmp_path, launcher, script, code)
