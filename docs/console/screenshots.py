"""Makes the pictures of docs/console.md: ``python docs/console/screenshots.py``.

Starts the emulator with the demonstration application, gives it work, and takes each page, with the
system's own Chromium.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
WIDE, NARROW = (1280, 800), (390, 800)
#: By file: the page, the window's size, and whether it is dark.
SHOTS = {
    "trace": ("trace/{campaign}", WIDE, False),
    "live": ("live", WIDE, False),
    "queues": ("queues", WIDE, False),
    "tasks": ("tasks", WIDE, True),
    "functions": ("functions", WIDE, False),
    "narrow": ("trace/{campaign}", NARROW, False),
}
CHROMIUM = shutil.which("/usr/bin/chromium") or shutil.which("chromium")


def post(url: str, **body: object) -> str:
    """The id of what was made, where there is one."""
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 (ours)
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return str(json.load(answer).get("id", ""))


def work(api: str) -> str:
    """Something of every kind, and some that waits; the campaign's id."""
    post(f"{api}/notify", email="a@example.com", message="hi")
    post(f"{api}/notify/deferred", email="b@example.com", message="hi")
    for minutes in (5, 10, 15):
        post(f"{api}/notify/deferred", email=f"in{minutes}@example.com", message="later",
             delay_seconds=60 * minutes)  # fmt: skip
    return post(f"{api}/campaigns", recipients=["c@example.com", "d@example.com"], message="hi")


def main() -> None:
    if CHROMIUM is None:
        sys.exit("chromium is not on the PATH; install it (apt-get install chromium)")
    command = [sys.executable, "-m", "twolane_local.cli", "up", "--json", "--quiet", "--no-reload",
               "--port", "0", "--aws-port", "0",
               "--parameter", "NotifyFailureRate=0.4"]  # fmt: skip
    emulator = subprocess.Popen(command, cwd=HERE.parents[1], stdout=subprocess.PIPE, text=True)
    try:
        said = json.loads(emulator.stdout.readline() if emulator.stdout else "")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            campaign = work(said["api"])
            for name, (where, (width, height), dark) in SHOTS.items():
                page = browser.new_page(
                    viewport={"width": width, "height": height},
                    color_scheme="dark" if dark else "light",
                )
                page.goto(f"{said['console']}/#/{where.format(campaign=campaign)}")
                # The first waits for the tasks too, so that the picture shows them done.
                page.wait_for_timeout(6_000 if name == "trace" else 1_500)
                page.screenshot(path=HERE / f"{name}.png")
                page.close()
            browser.close()
    finally:
        emulator.send_signal(signal.SIGINT)
        emulator.wait(20)


if __name__ == "__main__":
    main()
