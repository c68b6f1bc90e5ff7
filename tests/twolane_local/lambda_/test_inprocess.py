from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws.lambda_.functions import Functions
from twolane_local.aws.lambda_.inprocess import InProcessEnvironment
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec

if TYPE_CHECKING:
    from pathlib import Path

    from twolane_local.aws.lambda_.environment import Environment, Owner

HANDLER = """
import os, time
closed = []
class Handler:
    def __call__(self, event, context):
        if "raise" in event: raise ValueError(event["raise"])
        if "sleep" in event: time.sleep(event["sleep"])
        return {"id": context.aws_request_id, "mine": os.environ["MINE_INPROCESS"],
                "remaining": context.get_remaining_time_in_millis(), "text": "\\u00e9"}
    def close(self):
        closed.append(True)
handler = Handler()
"""


@pytest.fixture(autouse=True)
def clean(own_environ: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment changes the process: undo the changes."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def run(folder: Path, script: Any, code: str = HANDLER, *, module: str, **fields: Any) -> None:
    (folder / f"{module}.py").write_text(code)

    async def main() -> None:
        journal = Journal(SystemClock())
        spec = FunctionSpec("fn", "Fn", f"{module}.handler", folder, **fields)

        def make(spec: FunctionSpec, owner: Owner) -> Environment:
            return InProcessEnvironment(
                spec, {"MINE_INPROCESS": "yes"}, owner=owner, journal=journal
            )

        functions = Functions([spec], make, journal)
        try:
            await script(functions)
        finally:
            await functions.close()

    asyncio.run(main())


def test_the_handler_runs_here(tmp_path: Path) -> None:
    async def script(functions: Functions) -> None:
        outcome = await functions.invoke("fn", b"{}", request_id="r-1")
        result = json.loads(outcome.payload)
        assert (result["id"], result["mine"], result["text"]) == ("r-1", "yes", "é")
        assert 0 < result["remaining"] <= 3000
        assert outcome.error is None

    run(tmp_path, script, module="inprocess_here")
    assert sys.modules["inprocess_here"].closed == [True]


def test_an_error_is_shaped_as_on_lambda(tmp_path: Path) -> None:
    async def script(functions: Functions) -> None:
        outcome = await functions.invoke("fn", b'{"raise": "bad"}')
        error = json.loads(outcome.payload)
        assert outcome.error == "Unhandled"
        assert (error["errorType"], error["errorMessage"]) == ("ValueError", "bad")
        assert len(error["stackTrace"]) == 1

    run(tmp_path, script, module="inprocess_error")


def test_a_timeout_answers(tmp_path: Path) -> None:
    async def script(functions: Functions) -> None:
        outcome = await functions.invoke("fn", b'{"sleep": 0.4}')
        assert json.loads(outcome.payload)["errorType"] == "Sandbox.Timedout"

    run(tmp_path, script, module="inprocess_timeout", timeout_s=0.1)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("import nothing_there", "Runtime.ImportModuleError"),
        ("other = 1", "Runtime.HandlerNotFound"),
        ("raise RuntimeError('x')", "RuntimeError"),
    ],
)
def test_init_failures(tmp_path: Path, code: str, kind: str) -> None:
    async def script(functions: Functions) -> None:
        failures = await functions.warm()
        assert json.loads(failures["fn"])["errorType"] == kind

    run(tmp_path, script, code, module=f"inprocess_{kind.replace('.', '_').lower()}")


def test_the_trace_header_is_where_sdks_look_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "of nobody")

    async def script(functions: Functions) -> None:
        outcome = await functions.invoke("fn", b"{}", trace_headers=["Root=1-5"])
        assert re.fullmatch(
            rb'"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Sampled=0;Lineage=[0-9a-f]{8}:0"', outcome.payload
        )

    code = "import os\ndef handler(e, c): return os.environ['_X_AMZN_TRACE_ID']"
    run(tmp_path, script, code, module="inprocess_trace")


def test_a_result_that_is_no_json_is_the_functions_error(tmp_path: Path) -> None:
    async def script(functions: Functions) -> None:
        outcome = await functions.invoke("fn", b"{}")
        assert json.loads(outcome.payload)["errorType"] == "Runtime.MarshalError"

    run(tmp_path, script, "def handler(e, c): return {1, 2}", module="inprocess_marshal")
