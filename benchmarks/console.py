"""The console beside a busy emulator: what it costs, and how quick the page is.

Requests a second with and without a page open in Chromium, in turns, on one emulator. Then, with a
journal of 10,000 events and more: until a page's rows are there, and the main thread's work for
each live update while requests come at a rate. Without Chromium the rows say so.
"""

from __future__ import annotations

import json
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from _table import Row, absent, parser, report, row
from emulator import load, project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

ROUNDS = 5
REQUESTS, CONNECTIONS = 3_000, 16
EVENTS = 10_000
NAMES = ("chromium", "chromium-browser", "google-chrome")
PAGES = ("live", "trace", "queues", "functions")
#: The longest task and the longest own update since the page was opened, in milliseconds.
WATCH = """
window.longest = {task: 0, update: 0, updates: 0};
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) longest.task = Math.max(longest.task, each.duration);
}).observe({type: "longtask", buffered: false});
new PerformanceObserver((list) => {
  for (const each of list.getEntries()) {
    longest.update = Math.max(longest.update, each.duration);
    longest.updates += 1;
  }
}).observe({type: "measure", buffered: false});
"""


@contextmanager
def up(folder: Path) -> Iterator[dict[str, Any]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "twolane_local.cli", "up", "--json", "--quiet", "--no-reload",
         "--port", "0", "--aws-port", "0"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said: dict[str, Any] = json.loads(process.stdout.readline())
        urllib.request.urlopen(said["api"], timeout=30).close()
        yield said
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def opened(browser: Browser, console: str, where: str) -> Page:
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.goto(f"{console}/#/{where}")
    page.wait_for_selector("main h1")
    page.wait_for_timeout(1_000)
    return page


def throughput(browser: Browser, said: dict[str, Any]) -> list[Row]:
    """The same load with no page, and with one open, in turns."""
    api, console = said["api"], said["console"]
    load(api, CONNECTIONS, 1_000)
    rates: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        rates.setdefault("none", []).append(load(api, CONNECTIONS, REQUESTS)["rps"])
        for where in ("live", "trace"):
            page = opened(browser, console, where)
            rates.setdefault(where, []).append(load(api, CONNECTIONS, REQUESTS)["rps"])
            page.close()
    middle = {name: statistics.median(values) for name, values in rates.items()}
    rows = [row("requests/s, no page open", middle["none"], "req/s")]
    for where in ("live", "trace"):
        rows.append(row(f"requests/s, {where} open", middle[where], "req/s"))
        ratio = middle[where] / middle["none"]
        rows.append(row(f"{where} open / no page", ratio, "x", ">= 0.9"))
    return rows


def events_of(console: str) -> int:
    with urllib.request.urlopen(f"{console}/api/status", timeout=30) as answer:
        return int(json.load(answer)["journal"]["size"])


def paint(browser: Browser, console: str, where: str) -> float:
    """Milliseconds from the navigation to the first contentful paint, and to the first rows."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.goto(f"{console}/#/{where}")
    page.wait_for_selector({"live": ".stream li", "trace": ".span-row"}.get(where, "main .card"))
    rows = float(page.evaluate("performance.now()"))
    first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    context.close()
    assert first <= rows
    return rows


def updates(browser: Browser, said: dict[str, Any], where: str) -> dict[str, float]:
    """What the main thread does while 50 requests a second come, for five seconds."""
    page = opened(browser, said["console"], where)
    page.evaluate(WATCH)
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.02):
            urllib.request.urlopen(said["api"], timeout=30).close()

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(5)
    over.set()
    thread.join()
    found: dict[str, float] = page.evaluate("longest")
    page.close()
    return found


def quickness(browser: Browser, said: dict[str, Any]) -> list[Row]:
    """With 10,000 events in the journal."""
    while events_of(said["console"]) < EVENTS:
        load(said["api"], CONNECTIONS, 500)
    rows = [row("events in the journal", events_of(said["console"]), "", f">= {EVENTS}")]
    for where in PAGES[:2] + PAGES[3:]:
        times = [paint(browser, said["console"], where) for _ in range(ROUNDS)]
        rows.append(row(f"{where}: its rows are there", statistics.median(times), "ms", "<= 1000"))
    for where in PAGES:
        found = updates(browser, said, where)
        # 0: no task was long enough (50 ms) for the browser to tell of it.
        rows.append(row(f"{where}: longest task while live", found["task"], "ms", "<= 50"))
        rows.append(row(f"{where}: longest handling of an update", found["update"], "ms", "<= 50"))
        rows.append(row(f"{where}: updates", found["updates"], ""))
    return rows


def main() -> None:
    options = parser(__doc__).parse_args()
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        rows = [absent("the console in Chromium", "", "chromium is not installed")]
    else:
        with project() as folder, up(folder) as said, chromium(path) as browser:
            rows = [*throughput(browser, said), *quickness(browser, said)]
    report("Console", rows, as_json=options.json)


if __name__ == "__main__":
    main()
