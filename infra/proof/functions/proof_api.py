"""A FastAPI application whose answer leaves before its work."""

from __future__ import annotations

import os
import time
from typing import Annotated

from fastapi import BackgroundTasks, FastAPI, Header, HTTPException
from proof import ENVIRONMENT, note

from twolane import ApiHandler

app = FastAPI()


def _check(token: str) -> None:
    if token != os.environ["PROOF_TOKEN"]:
        raise HTTPException(403)


def work(kind: str, seconds: float) -> None:
    time.sleep(seconds)
    note("worked", of=kind)


async def block(seconds: float) -> None:
    """Hold the event loop itself: nothing but the function's timeout ends it."""
    time.sleep(seconds)  # noqa: ASYNC251 - that is the point


@app.post("/block")
def start_blocking(
    background_tasks: BackgroundTasks, x_proof_token: Annotated[str, Header()] = ""
) -> dict[str, str]:
    _check(x_proof_token)
    background_tasks.add_task(block, 30)
    return {"environment": ENVIRONMENT}


@app.post("/work/{kind}")
def start(
    kind: str,
    seconds: float,
    background_tasks: BackgroundTasks,
    x_proof_token: Annotated[str, Header()] = "",
) -> dict[str, str]:
    _check(x_proof_token)
    background_tasks.add_task(work, kind, seconds)
    return {"environment": ENVIRONMENT}


handler = ApiHandler(app)
