"""A real Chromium: pages whose console says nothing wrong, and what axe thinks of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

#: Debian's, else what the PATH has under its names; never one that Playwright has downloaded.
DEBIAN = "/usr/bin/chromium"
NAMES = ("chromium", "chromium-browser")
WIDE, NARROW = (1280, 860), (390, 844)


def executable() -> str:
    """Where Chromium is; the test is skipped where there is none, outside of CI."""
    found = next((path for name in (DEBIAN, *NAMES) if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium on the PATH")
        pytest.skip("chromium is not on the PATH; install it (apt-get install chromium)")
    return found


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """The system's own build, by its path; nothing is downloaded."""
    from playwright.sync_api import sync_playwright

    path = executable()
    with sync_playwright() as playwright:
        # In a container there is no user namespace for Chromium's sandbox.
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", *arguments]
        )
        try:
            yield browser
        finally:
            browser.close()


def version(path: str) -> str:
    """What a Chromium says that it is, as in ``142.0.7444.162``."""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)+", said)
    assert found is not None, said
    return found[0]


@dataclass
class Tab:
    """A page, and everything that its console complained of."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def go(self, where: str) -> None:
        """To one of the console's pages, once it shows something of its own."""
        self.page.goto(f"{self.url}/#/{where}")
        page = re.split("[/?]", where)[0]
        self.page.wait_for_selector(f"main[data-page='{page}'] h1")

    def faults(self) -> list[str]:
        """What axe finds that is serious or worse."""
        from axe_playwright_python.sync_playwright import Axe

        found: list[dict[str, Any]] = Axe().run(self.page).response["violations"]
        return [
            f"{each['id']}: {node['target']} {node['failureSummary']}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        script = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.page.evaluate(script))


@contextmanager
def tab(
    browser: Browser, url: str, *, size: tuple[int, int] = WIDE, dark: bool = False
) -> Iterator[Tab]:
    """A fresh profile; at its end nothing may have been complained of."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    opened = Tab(page, url)
    page.on(
        "console",
        lambda said: (
            opened.complaints.append(f"{said.type}: {said.text}")
            if said.type in ("error", "warning")
            else None
        ),
    )
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    try:
        yield opened
        assert opened.complaints == []
    finally:
        context.close()
