"""The web console in a real Chromium, beside the demonstration application under load."""

from __future__ import annotations

import http.server
import re
import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import expect

from .browser import NARROW, WIDE, chromium, executable, tab, version
from .conftest import until, up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from ..conftest import Serve  # noqa: TID252
    from .conftest import Service

pytestmark = pytest.mark.slow

PAGES = (
    "trace", "live", "queues", "queues/local-TaskDeadLetterQueue", "tasks",
    "tasks/app.tasks.send_notification", "schedules", "functions", "why", "time",
)  # fmt: skip
DEAD = "local-TaskDeadLetterQueue"
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
Up = tuple["Service", str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("console")) as (service, said):
        yield service, said["console"]


@pytest.fixture(scope="module")
def movable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """In this process, with every attempt failing: retries wait for a clock that can be moved."""
    flags = ("--in-process", "--parameter", "NotifyFailureRate=1")
    with up(tmp_path_factory.mktemp("movable"), *flags) as (service, said):
        yield service, said["console"]


def post(service: Service, path: str, **body: Any) -> dict[str, Any]:
    answer = httpx.post(f"{service.url}{path}", json=body, timeout=30, trust_env=False)
    assert answer.status_code < 300, answer.text
    return dict(answer.json())


@contextmanager
def load(service: Service) -> Iterator[None]:
    """Requests of every kind, one after the other, until the block is left."""
    over = threading.Event()

    def work() -> None:
        number = 0
        while not over.is_set():
            number += 1
            to = f"reader{number}@example.com"
            post(service, "/notify", email=to, message=f"{number} {HOSTILE}")
            post(service, "/notify/deferred", email=to, message=HOSTILE)
            if number % 10 == 1:
                post(service, "/campaigns", recipients=[to, "other@example.com"], message="hi")
            over.wait(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)


@pytest.mark.parametrize(
    ("size", "dark"), [(WIDE, False), (WIDE, True), (NARROW, False)], ids=["wide", "dark", "narrow"]
)
def test_every_page_under_load(
    browser: Browser, started: Up, size: tuple[int, int], dark: bool
) -> None:
    service, url = started
    with load(service), tab(browser, url, size=size, dark=dark) as shown:
        for where in PAGES:
            shown.go(where)
            shown.page.wait_for_timeout(400)  # for what the page loads after its first words
            assert shown.faults() == [], where
            assert shown.overflow() <= 0, where
            assert "owned" not in shown.page.title()
            assert shown.page.locator("main img, main script").count() == 0


def test_the_browser_is_the_one_of_the_system(browser: Browser) -> None:
    path = executable()
    assert "ms-playwright" not in path
    assert browser.version == version(path)


def test_a_trace_shows_both_lanes_and_opens_its_spans(browser: Browser, started: Up) -> None:
    service, url = started
    task = post(service, "/notify/deferred", email="b@example.com", message=HOSTILE)["id"]
    with tab(browser, url) as shown:
        page = shown.page
        shown.go("live")
        page.keyboard.press("/")
        page.keyboard.type(task)
        page.keyboard.press("Enter")
        for title in ("POST /notify/deferred", "response 202 sent", "attempt 1: succeeded"):
            expect(page.get_by_role("button", name=title, exact=False).first).to_be_visible()
        page.get_by_role("button", name="attempt 1: succeeded").click()
        expect(page.get_by_text("Sending notification to b@example.com")).to_be_visible()
        page.get_by_role("button", name="POST /notify/deferred").click()
        body = page.get_by_role("region", name="Body")
        expect(body).to_contain_text("onerror", use_inner_text=True)
        assert shown.faults() == []


def test_a_trace_that_is_opened_too_early_comes_later(browser: Browser, started: Up) -> None:
    _, url = started
    task = str(uuid.uuid4())
    with tab(browser, url) as shown:
        shown.go(f"trace/{task}")
        expect(shown.page.get_by_text("the journal holds nothing about")).to_be_visible()
        assert all("404" in each for each in shown.complaints)
        shown.complaints.clear()
        token = shown.page.locator('meta[name="twolane-token"]').get_attribute("content")
        answer = httpx.post(
            f"{url}/api/tasks/app.tasks.send_notification/run", trust_env=False, timeout=30,
            json={"args": ["early@example.com", "hi"], "taskId": task},
            headers={"x-twolane-token": token or ""},
        )  # fmt: skip
        assert answer.is_success, answer.text
        expect(shown.page.get_by_role("button", name="attempt 1: succeeded")).to_be_visible()


def test_live_shows_what_comes_and_only_what_is_wanted(browser: Browser, started: Up) -> None:
    service, url = started
    with tab(browser, url) as shown:
        shown.go("live?text=needle")
        expect(shown.page.get_by_role("status").filter(has_text="Nothing yet")).to_be_visible()
        post(service, "/notify", email="needle@example.com", message="hi")
        post(service, "/notify", email="straw@example.com", message="hi")
        expect(shown.page.locator(".stream li").first).to_contain_text("needle@example.com")
        assert shown.page.locator(".stream", has_text="straw").count() == 0


def test_a_fault_is_seen_and_its_dead_letter_edited_and_redriven(
    browser: Browser, started: Up
) -> None:
    service, url = started
    with tab(browser, url) as shown:
        page = shown.page
        shown.go("time")
        page.get_by_label("Fault", exact=True).select_option("message.changed-signature")
        page.get_by_role("button", name="Inject").click()
        expect(page.get_by_role("row", name="message.changed-signature")).to_be_visible()
        task = post(service, "/notify/deferred", email="dead@example.com", message="hi")["id"]
        expect(page.locator(".stream li.fault").first).to_contain_text("message.changed-signature")

        shown.go(f"queues/{DEAD}")
        row = page.get_by_role("row", name=re.compile("send_notification.*TypeError"))
        expect(row).to_be_visible()
        row.get_by_role("link", name="Why?").click()
        expect(page.locator(".reason.stuck")).to_contain_text("only a redrive moves it")

        shown.go(f"queues/{DEAD}")
        row.get_by_role("button", name="Edit …").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("args", exact=True).fill('["dead@example.com", "mended"]')
        dialog.get_by_label("kwargs", exact=True).fill("{}")
        dialog.get_by_role("button", name="Redrive").click()
        expect(page.get_by_text("Redriven with the change")).to_be_visible()
        expect(page.get_by_text("No dead letters")).to_be_visible()

        shown.go(f"trace/{task}")
        expect(page.get_by_role("button", name="redriven to local-TaskQueue")).to_be_visible()
        expect(page.get_by_role("button", name="result: succeeded")).to_be_visible()
    assert service.get(f"/tasks/{task}")[1]["state"] == "SUCCESS"


def test_a_task_runs_from_its_form_and_again_from_its_history(
    browser: Browser, started: Up
) -> None:
    _, url = started
    with tab(browser, url) as shown:
        page = shown.page
        shown.go("tasks")
        page.get_by_role("link", name="app.tasks.send_notification").click()
        page.get_by_label("email", exact=True).fill("form@example.com")
        page.get_by_label("message", exact=True).fill("from a form")
        page.get_by_role("button", name="Run", exact=True).click()
        row = page.get_by_role("row", name=re.compile("ok.*form@example.com"))
        expect(row.first).to_be_visible()
        row.first.get_by_role("button", name="Rerun …").click()
        expect(page.get_by_label("message", exact=True)).to_have_value("from a form")
        page.get_by_label("message", exact=True).fill("edited")
        page.get_by_role("button", name="Run", exact=True).click()
        expect(page.get_by_role("row", name=re.compile("ok.*edited"))).to_be_visible()


def test_a_schedule_runs_now(browser: Browser, started: Up) -> None:
    _, url = started
    with tab(browser, url) as shown:
        shown.go("schedules")
        expect(shown.page.get_by_text("daily-digest").first).to_be_visible()
        shown.page.get_by_role("button", name="Run now").click()
        expect(shown.page.get_by_text("fired")).to_be_visible()
        shown.go("live?kind=schedule")
        expect(shown.page.locator(".stream li").first).to_contain_text("fired")


def test_environments_are_shown_one_by_one(browser: Browser, started: Up) -> None:
    service, url = started
    with tab(browser, url) as shown:
        shown.go("functions")
        rows = shown.page.get_by_role("region", name="ApiFunction: environments").get_by_role("row")
        post(service, "/notify", email="envs@example.com", message="hi")
        done = re.compile(r"^\d+\s*frozen\s*\d\d:\d\d:\d\d\s*\d+ MB\s*[1-9][\d,]*$")
        expect(rows.filter(has_text=done).first).to_be_visible()
        now = httpx.get(f"{url}/api/functions", trust_env=False).json()["functions"]
        worker = next(each for each in now if each["name"] == "WorkerFunction")
        ids = [each["id"] for each in worker["environments"]]
        assert ids
        assert len(set(ids)) == len(ids)


def waiting_for_a_retry(url: str, tasks: list[str]) -> tuple[str, int] | None:
    """One of the tasks that waits on its queue, once all of them were tried, and how often."""
    found = None
    for task in tasks:
        spans = httpx.get(f"{url}/api/trace/{task}", trust_env=False).json()["spans"]
        # A task without luck has used up its retries, and its message is refused without an attempt.
        tried = [each["attempt"] for each in spans if "attempt" in each]
        if not tried or any(each["state"] == "running" for each in spans):
            return None
        if any(each["kind"] == "wait" and each["state"] == "waiting" for each in spans):
            found = task, max(tried)
    return found


def test_time_is_moved_and_a_retry_fires(browser: Browser, movable: Up) -> None:
    service, url = movable
    with tab(browser, url) as shown:
        page = shown.page
        shown.go("time")
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_role("button", name="Resume")).to_be_visible()
        # A retry's delay is drawn by lot and may be none: of so many, some have to wait.
        sent = [
            post(service, "/notify/deferred", email="t@example.com", message="hi",
                 delay_seconds=600)["id"]
            for _ in range(6)
        ]  # fmt: skip
        shown.go(f"why/{sent[0]}")
        expect(page.locator(".reason").first).to_contain_text("visible in 10 min")
        expect(page.locator("main")).to_contain_text("clock is paused")

        shown.go("time")
        page.get_by_role("button", name="+15 min").click()
        task, attempts = until(lambda: waiting_for_a_retry(url, sent), "retry that waits")
        shown.go(f"trace/{task}")
        expect(page.get_by_role("button", name=f"attempt {attempts}: retried")).to_be_visible()
        following = page.get_by_role("button", name=f"attempt {attempts + 1}")
        assert following.count() == 0

        shown.go("time")
        page.get_by_role("button", name="+1 min").click()
        shown.go(f"trace/{task}")
        expect(following).to_be_visible()
        assert page.locator(".mark-line").count() > 0, "the leaps are on the time line"


def test_keys_lead_everywhere(browser: Browser, started: Up) -> None:
    service, url = started
    task = post(service, "/notify/deferred", email="keys@example.com", message="hi")["id"]
    with tab(browser, url) as shown:
        page = shown.page
        shown.go("trace")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        for key, title in (("q", "Queues"), ("k", "Tasks"), ("w", "Why?"), ("t", "Trace")):
            page.keyboard.press("g")
            page.keyboard.press(key)
            expect(page.get_by_role("heading", name=title, level=1)).to_be_visible()
        shown.go(f"trace/{task}")
        page.locator(".span-row").first.focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.locator(".span-row").nth(1)).to_have_attribute("aria-expanded", "true")


# ruff: noqa: E501 - the page of an attacker need not fit
EVIL = """<!doctype html><title>elsewhere</title><iframe src="CONSOLE/"></iframe><script type="module">
const tell = (name, value) => { document.title += ` ${name}:${value}`; };
const tried = async (name, work) => tell(name, await work().then(() => "got in", () => "refused"));
const json = {method: "POST", headers: {"content-type": "application/json", "x-twolane-token": "x"}, body: "{}"};
await tried("read", async () => (await fetch("CONSOLE/api/status")).text());
await tried("page", async () => (await fetch("CONSOLE/")).text());
await tried("change", async () => fetch("CONSOLE/api/queues/QUEUE/purge", json));
await tried("module", async () => import("CONSOLE/static/lib/api.js"));
await fetch("CONSOLE/api/queues/QUEUE/send", {method: "POST", mode: "no-cors", body: '{"body": "evil"}'}).catch(() => 0);
await new Promise((done) => {
  const stream = new EventSource("CONSOLE/api/journal/stream?after=0");
  stream.onmessage = () => { tell("stream", "got in"); done(); };
  stream.onerror = () => { tell("stream", "refused"); stream.close(); done(); };
});
const form = Object.assign(document.createElement("form"), {method: "post", enctype: "text/plain", action: "CONSOLE/api/queues/QUEUE/send", target: "nowhere"});
form.append(Object.assign(document.createElement("input"), {name: '{"body": "evil', value: '"}'}));
document.body.append(form);
form.submit();
tell("end", "reached");
</script>"""


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """A page of another origin, on another port of this machine."""

    page = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, *_: Any) -> None:
        """Silent."""


def test_a_page_of_elsewhere_reads_and_changes_nothing(
    browser: Browser, started: Up, serve: Serve
) -> None:
    _, url = started
    Elsewhere.page = EVIL.replace("CONSOLE", url).replace("QUEUE", DEAD).encode()
    with serve(Elsewhere) as address:
        page = browser.new_page()
        page.goto(f"http://localhost:{address.rpartition(':')[2]}/")
        page.wait_for_function("document.title.includes('end:reached')")
        title = page.title()
        page.close()
    for name in ("read", "page", "change", "module", "stream"):
        assert f"{name}:refused" in title
    messages = httpx.get(f"{url}/api/queues/{DEAD}/messages", trust_env=False).json()["messages"]
    assert [each["body"] for each in messages if "evil" in each["body"]] == []
