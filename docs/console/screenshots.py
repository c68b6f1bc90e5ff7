"""Makes the pictures of docs/console.md: ``python docs/console/screenshots.py``.

Starts the emulator with the demonstration application, gives it work, and takes each page.
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
SHOTS = {"trace": "trace", "live": "live", "queues": "queues", "functions": "functions"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def post(url: str, **body: object) -> None:
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 (ours)
    urllib.request.urlopen(request, timeout=30).close()  # noqa: S310


def main() -> None:
    command = [sys.executable, "-m", "twolane_local.cli", "up", "--json", "--quiet", "--port", "0",
               "--aws-port", "0", "--parameter", "NotifyFailureRate=0.4"]  # fmt: skip
    emulator = subprocess.Popen(command, cwd=HERE.parents[1], stdout=subprocess.PIPE, text=True)
    try:
        said = json.loads(emulator.stdout.readline() if emulator.stdout else "")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            post(f"{said['api']}/notify", email="a@example.com", message="hi")
            post(f"{said['api']}/notify/deferred", email="b@example.com", message="hi")
            post(f"{said['api']}/campaigns", recipients=["c@example.com", "d@example.com"],
                 message="hi")  # fmt: skip
            page.wait_for_timeout(5_000)
            for name, where in SHOTS.items():
                page.goto(f"{said['console']}/#/{where}")
                page.wait_for_timeout(1_000)
                page.screenshot(path=HERE / f"{name}.png")
            browser.close()
    finally:
        emulator.send_signal(signal.SIGINT)
        emulator.wait(20)


if __name__ == "__main__":
    main()
