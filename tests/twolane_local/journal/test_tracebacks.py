"""Tracebacks that begin in the application's code."""

from __future__ import annotations

import asyncio
import contextlib
import re
import traceback

import anyio
import httpx
import pytest
from celery import Celery
from fastapi import FastAPI

from twolane_local.aws.lambda_.output import Gathering
from twolane_local.journal.tracebacks import fold


def broken() -> None:
    raise ValueError("it broke")


def get(app: FastAPI) -> None:
    async def request() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await client.get("/")

    asyncio.run(request())


def frames_of(text: str) -> list[str]:
    """The functions of the frames that are shown, and the notes of those that are not."""
    lines = [line.strip(" |\u00a0") for line in text.split("\n")]
    return [line.rpartition(" in ")[2] if line.startswith("File ") else line
            for line in lines if line.startswith(("File ", "…"))]  # fmt: skip


def test_an_endpoints_begins_in_the_endpoint() -> None:
    app = FastAPI()
    app.get("/")(broken)
    with pytest.raises(ValueError, match="it broke") as caught:
        get(app)
    own = caught.value.with_traceback(_from(caught.value, "__call__"))
    text = "".join(traceback.format_exception(own))
    whole, folded = frames_of(text), frames_of(fold(text))
    assert folded == [f"… {len(whole) - 1} frames of fastapi, starlette, anyio", "broken"]
    assert fold(text).endswith("ValueError: it broke\n")


def _from(error: BaseException, name: str) -> traceback.TracebackType | None:
    found = error.__traceback__
    while found is not None and (
        found.tb_frame.f_code.co_name != name or "fastapi" not in found.tb_frame.f_code.co_filename
    ):
        found = found.tb_next
    return found


def test_a_tasks_begins_in_the_task() -> None:
    app = Celery("shop", broker="memory://", backend="cache+memory://")
    app.conf.update(task_always_eager=True, task_store_eager_result=True)
    text = str(app.task(broken).apply().traceback)
    folded, own = frames_of(fold(text))
    # A worker in this process, as other tests make one, adds a frame of Celery's.
    assert re.fullmatch("… (1 frame|2 frames) of celery", folded)
    assert own == "broken"


def test_the_frames_of_a_cause_fold_by_themselves_and_what_is_between_stays() -> None:
    app = FastAPI()

    @app.middleware("http")
    async def own(request, call_next):
        try:
            return await call_next(request)
        except ValueError as error:
            raise LookupError("of it") from error

    app.get("/")(broken)
    with pytest.raises(LookupError) as caught:
        get(app)
    first, _, second = "".join(traceback.format_exception(caught.value)).partition("direct cause")
    assert [each for each in frames_of(fold(first)) if not each.startswith("…")] == [
        "own", "broken",
    ]  # fmt: skip
    assert frames_of(fold(second))[-1] == "own"
    assert "LookupError: of it" in fold(second)


def test_an_exception_groups_frames_keep_their_margin() -> None:
    async def several() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, broken)

    with pytest.raises(ExceptionGroup) as caught:
        anyio.run(several)
    text = "".join(traceback.format_exception(caught.value))
    folded = fold(text)
    assert "    |   … " in folded
    assert frames_of(folded)[-1] == "broken"
    assert folded.count("ValueError: it broke") == 1


def test_the_place_where_it_was_raised_stays_whosever_it_is() -> None:
    with pytest.raises(TypeError) as caught:
        Celery("shop", broker="memory://").send_task("a", args=7)
    text = "".join(traceback.format_exception(caught.value))
    shown = [each for each in frames_of(fold(text)) if not each.startswith("…")]
    assert shown[0] == "test_the_place_where_it_was_raised_stays_whosever_it_is"
    assert shown[-1] == frames_of(text)[-1]


def test_the_standard_librarys_frames_alone_stay() -> None:
    @contextlib.contextmanager
    def inner():
        yield
        broken()

    def outer() -> None:
        with inner():
            pass

    with pytest.raises(ValueError, match="it broke") as caught:
        outer()
    text = "".join(traceback.format_exception(caught.value))
    assert fold(text) == text


@pytest.mark.parametrize(
    ("file", "folds"),
    [
        ("/var/task/celery/app/trace.py", True),
        ("/var/task/celery_app/trace.py", False),
        ("/var/task/shop/celery/tasks.py", False),
        ("/opt/python/starlette/routing.py", True),
        ("/opt/python/lib/python3.12/site-packages/kombu/messaging.py", True),
        ("/usr/local/lib/python3.11/site-packages/twolane/worker/pool.py", True),
        ("/usr/local/lib/python3.11/dist-packages/shop/api.py", False),
        ("/src/local/shop/api.py", False),
        ("/src/handlers/twolane/worker/pool.py", True),
        ("/var/task/handlers/mail.py", False),
    ],
)
def test_frameworks_are_known_by_their_place(file: str, folds: bool) -> None:
    text = (
        f'Traceback (most recent call last):\n  File "{file}", line 3, in one\n    two()\n'
        '  File "/var/task/last.py", line 1, in two\n    1 / 0\nZeroDivisionError: division by zero'
    )
    assert (file not in fold(text)) == folds


def test_the_runtime_clients_spaces_are_read_too() -> None:
    text = (
        "[ERROR] ValueError: x\nTraceback (most recent call last):\n"
        '\u00a0\u00a0File "/var/task/mangum/adapter.py", line 3, in __call__\n'
        "\u00a0\u00a0\u00a0\u00a0return call()\n"
        '\u00a0\u00a0File "/var/task/shop.py", line 1, in call\n\u00a0\u00a0\u00a0\u00a01 / 0'
    )
    assert frames_of(fold(text)) == ["… 1 frame of mangum", "call"]


def test_text_output_keeps_a_traceback_together() -> None:
    gathering = Gathering()
    lines = [b"before", b"Traceback (most recent call last):", b'  File "a.py", line 1, in a',
             b"    1 / 0", b"ZeroDivisionError: x", b"after"]  # fmt: skip
    found = [each for line in lines for each in gathering.add(line)]
    assert found == [b"before", b"\n".join(lines[1:5]), b"after"]
    assert gathering.flush() == []


def test_an_unfinished_traceback_is_not_lost() -> None:
    gathering = Gathering()
    lines = [b"Traceback (most recent call last):", b"  File"]
    assert [each for line in lines for each in gathering.add(line)] == []
    assert gathering.flush() == [b"Traceback (most recent call last):\n  File"]
