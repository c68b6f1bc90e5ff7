"""The first look: from ``twolane up`` to the first 200, and from a POST to its task's SUCCESS.

Each round is a fresh start of the repository's own application, with a warm file cache and the
template expanded before, as on every start but a checkout's first. Medians of several rounds.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from _table import parser, report, row

ROOT = Path(__file__).parent.parent
ROUNDS = 5


def call(url: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(
        url,
        None if body is None else json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def one_round() -> tuple[float, float, float]:
    """Seconds: start to first 200; POST to SUCCESS, cold; the same, warm."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "twolane_local.cli", "up", "--json", "--quiet", "--no-reload",
         "--port", "0", "--aws-port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        api = json.loads(process.stdout.readline())["api"]
        call(f"{api}/healthz")
        first = time.perf_counter() - began
        return first, deferred(api), deferred(api)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def deferred(api: str) -> float:
    """Seconds from the POST to the state SUCCESS, asked for every 5 ms."""
    began = time.perf_counter()
    body = {"email": "user@example.com", "message": "hello"}
    task = call(f"{api}/notify/deferred", body)["id"]
    while call(f"{api}/tasks/{task}")["state"] != "SUCCESS":
        if time.perf_counter() - began > 60:
            raise SystemExit("the task did not succeed within a minute")
        time.sleep(0.005)
    return time.perf_counter() - began


def main() -> None:
    options = parser(__doc__).parse_args()
    one_round()  # fills the caches of files and of the template
    rounds = [one_round() for _ in range(ROUNDS)]
    first, cold, warm = (statistics.median(column) for column in zip(*rounds, strict=True))
    report(
        "First look",
        [
            row("twolane up to the first 200", first, "s", "<= 1.5"),
            row("POST to SUCCESS, first task", cold, "s"),
            row("POST to SUCCESS, next task", warm, "s"),
        ],
        as_json=options.json,
    )


if __name__ == "__main__":
    main()
