"""A page of another origin reads and changes nothing; a change needs the token. Over real HTTP."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import pytest

from twolane_local.console.server import CSP, refusal

TOKEN = b"secret"
OWN = "127.0.0.1:5000"


def ask(method="GET", **headers):
    given = {"host": OWN, **headers}
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]
    return refusal(method, dict(pairs), pairs, TOKEN)


def change(**headers):
    given = {
        "content_type": "application/json", "x_twolane_token": "secret", "content_length": "2",
        **headers,
    }  # fmt: skip
    return ask("POST", **{name: value for name, value in given.items() if value is not None})


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "localhost:5000", "[::1]:5000"])
def test_names_of_this_machine_are_answered(host):
    assert ask(host=host) is None


@pytest.mark.parametrize(
    "host", ["evil.example:5000", "127.0.0.1.evil.example", "", "sqs.us-east-1.amazonaws.com",
             "sqs.us-east-1.amazonaws.com:5000", "foo.amazonaws.com.", "bucket.localhost:5000",
             "localhost.", "host.docker.internal:5000"],
)  # fmt: skip
def test_a_name_that_was_rebound_to_this_machine_is_not(host):
    assert ask(host=host)[0] == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:8000", "null"])
def test_another_origin_is_refused_also_on_this_machine(origin):
    assert ask(origin=origin)[0] == 403
    assert change(origin=origin)[0] == 403


def test_its_own_origin_is_answered():
    assert ask(origin=f"http://{OWN}", sec_fetch_site="same-origin") is None
    assert change(origin=f"http://{OWN}", sec_fetch_site="same-origin") is None


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_browser_says_comes_from_elsewhere_is_refused(site):
    assert ask(sec_fetch_site=site)[0] == 403
    assert change(sec_fetch_site=site)[0] == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_type": None}, 415),
        ({"x_twolane_token": None}, 401),
        ({"x_twolane_token": "guessed"}, 401),
        ({"content_length": None}, 411),
        ({"content_length": "99999999"}, 413),
    ],
)
def test_a_change_needs_json_the_token_and_a_size(headers, status):
    assert change(**headers)[0] == status
    assert change() is None


def request(url, method, path, headers, body=None):
    """As a browser sends it; httpx would not let Host and Origin be forged."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    for name, value in {"Host": parts.netloc, **headers}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


ROUTES = ["/", "/api/status", "/api/journal", "/api/journal/stream", "/static/app.js"]


def test_over_http_nothing_foreign_gets_an_answer(run):
    import asyncio

    async def body(up):
        url = up.console.url
        up.parts.queues.create("q")
        for path in ROUTES:
            for headers in (
                {"Host": "evil.example"},
                {"Origin": "https://evil.example"},
                {"Sec-Fetch-Site": "cross-site"},
            ):
                answer, text = await asyncio.to_thread(request, url, "GET", path, headers)
                assert answer.status == 403, (path, headers)
                assert up.console.token not in text
                assert answer.getheader("access-control-allow-origin") is None
        for headers in (
            {"Content-Type": "text/plain", "Origin": "https://evil.example"},
            {"Content-Type": "application/json"},
            {"Content-Type": "application/json", "X-Twolane-Token": "guessed"},
        ):
            answer, _ = await asyncio.to_thread(
                request, url, "POST", "/api/queues/q/send", {**headers, "Content-Length": "14"},
                b'{"body": "no"}',
            )  # fmt: skip
            assert answer.status in (401, 403, 415)
        assert len(up.parts.queues.refreshed("q")) == 0

    run(body)


def test_every_answer_forbids_what_no_page_of_ours_needs(run):
    async def body(up):
        for path in ("/", "/api/status", "/static/app.js", "/api/nothing"):
            answer = await up.client.get(path)
            assert answer.headers["content-security-policy"] == CSP
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert answer.headers["x-frame-options"] == "DENY"

    run(body)


def test_a_preflight_is_refused(run):
    async def body(up):
        answer = await up.client.options("/api/queues/q/send", headers={"origin": up.console.url})
        assert answer.status_code in (401, 405, 415)
        assert "access-control-allow-origin" not in answer.headers

    run(body)
