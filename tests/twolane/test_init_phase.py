"""The collector in the Init phase, each case in a process of its own: it is the process's."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

IN_LAMBDA = {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001", "AWS_LAMBDA_FUNCTION_NAME": "Api"}
#: What each adapter is given.
CELERY = "from celery import Celery; app = Celery('app', broker='sqs://', backend='disabled')"
ADAPTERS = {
    "ApiHandler": "async def app(scope, receive, send): ...",
    "WorkerHandler": CELERY,
    "BeatHandler": CELERY,
}


def run(code: str, environ: dict[str, str]) -> list[object]:
    """What ``code`` leaves in ``told``; ``thresholds`` and ``frozen`` are there to tell with."""
    code = (
        "import gc, json; thresholds = gc.get_threshold; frozen = gc.get_freeze_count; told = []\n"
        f"{code}\n"
        "print(json.dumps(told))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path), "AWS_DEFAULT_REGION": "eu-west-1", **environ},
    )  # fmt: skip
    told: list[object] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_collects_seldom_until_a_handler_stands(adapter: str) -> None:
    before, meanwhile, after, count = run(
        "told.append(thresholds())\n"
        "import twolane\n"
        "told.append(thresholds())\n"
        f"{ADAPTERS[adapter]}\n"
        f"handler = twolane.{adapter}(app)\n"
        "told += [thresholds(), frozen()]",
        IN_LAMBDA,
    )
    assert isinstance(before, list)
    assert meanwhile == [250_000, *before[1:]]
    assert after == before
    assert isinstance(count, int)
    assert count > 1_000


def test_what_invocations_leave_is_collected() -> None:
    [alive] = run(
        "import weakref, twolane\n"
        "async def app(scope, receive, send): ...\n"
        "handler = twolane.ApiHandler(app)\n"
        "class Circle: pass\n"
        "def circle():\n"
        "    made = Circle(); made.itself = made\n"
        "    return weakref.ref(made)\n"
        "first = circle()\n"
        "kept = [[] for _ in range(200_000)]\n"
        "told.append(first() is not None)",
        IN_LAMBDA,
    )
    assert alive is False


def test_does_nothing_outside_an_execution_environment() -> None:
    before, after, count = run(
        "told.append(thresholds())\n"
        "import twolane\n"
        "async def app(scope, receive, send): ...\n"
        "handler = twolane.ApiHandler(app)\n"
        "told += [thresholds(), frozen()]",
        {},
    )
    assert after == before
    # Python keeps some objects frozen from its own start on, where it does.
    assert count == run("told.append(frozen())", {})[0]


def test_an_application_s_own_thresholds_stay() -> None:
    after, count = run(
        "import twolane\n"
        "gc.set_threshold(5_000, 20, 20)\n"
        "async def app(scope, receive, send): ...\n"
        "before = frozen()\n"
        "handler = twolane.ApiHandler(app)\n"
        "told += [thresholds(), frozen() - before]",
        IN_LAMBDA,
    )
    assert after == [5_000, 20, 20]
    assert count == 0


def test_a_second_handler_freezes_no_more() -> None:
    first, second = run(
        "import twolane\n"
        "async def app(scope, receive, send): ...\n"
        "one = twolane.ApiHandler(app); told.append(frozen())\n"
        "other = twolane.ApiHandler(app); told.append(frozen())",
        IN_LAMBDA,
    )
    assert second == first
