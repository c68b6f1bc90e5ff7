"""Which requests each kind of port answers; over real sockets and in a real browser elsewhere."""

from __future__ import annotations

import pytest

from twolane_local.http.access import Caller, Door, caller_of

API = Door(pages=True)
AWS = Door(buckets=True)
CONSOLE = Door(own=True)
OPENED = Door(["abc.ngrok.app", ".tenant.test", "[fe80::1]"], buckets=True)


def ask(door: Door, host: str = "127.0.0.1:4566", method: str = "GET", **headers: str) -> bool:
    pairs = [(b"Host", host.encode())]
    pairs += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    caller = caller_of(pairs)
    assert caller is not None
    return door.refusal(method, caller) is None


@pytest.mark.parametrize("door", [API, AWS, CONSOLE, OPENED])
@pytest.mark.parametrize(
    "host", ["localhost", "localhost:4566", "127.0.0.1:4566", "[::1]:4566", "LOCALHOST", "[::1]"]
)
def test_names_of_this_machine(door: Door, host: str) -> None:
    assert ask(door, host)
    assert ask(door, host)  # it is remembered


@pytest.mark.parametrize("door", [API, AWS, CONSOLE, OPENED])
@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "evillocalhost",
        "192.168.0.7:4566", "amazonaws.com.evil.example", "sqs.us-east-1.amazonaws.com",
        "evil.s3-website-us-east-1.amazonaws.com", "foo.amazonaws.com.", "localhost.",
        "localhost:4566.evil.example", "localhost:", "localhost:1:2", "localhost@evil.example",
        "0.0.0.0", "0.0.0.0:4566", "127.0.0.2", "127.1", "[::2]", "host.docker.internal:4566",
        "localhost, evil.example", "localhost evil", "loc\xe4lhost", "bucket.localhost.",
    ],
)  # fmt: skip
def test_names_of_others_and_odd_ones(door: Door, host: str) -> None:
    assert not ask(door, host)


def test_buckets_are_names_below_localhost_on_the_aws_port_alone() -> None:
    for host in ("bucket.localhost:4566", "a.b.s3.localhost", "sqs.us-east-1.localhost:1"):
        assert ask(AWS, host)
        assert not ask(API, host)
        assert not ask(CONSOLE, host)
        # But the page of a bucket is not this machine's.
        assert not ask(AWS, origin=f"http://{host}")
    assert not ask(AWS, ".localhost")
    assert not ask(AWS, "a_b.localhost")


def test_names_that_were_given_are_this_machine_s() -> None:
    assert ask(OPENED, "abc.ngrok.app")
    assert ask(OPENED, "ABC.ngrok.app:443")
    assert ask(OPENED, "a.b.tenant.test:80")
    assert ask(OPENED, "[fe80::1]:3000")
    assert ask(OPENED, origin="https://abc.ngrok.app")
    for host in ("x.abc.ngrok.app", "tenant.test", "eviltenant.test", "abc.ngrok.app.evil"):
        assert not ask(OPENED, host)
        assert not ask(OPENED, origin=f"https://{host}")


@pytest.mark.parametrize("door", [API, AWS])
@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"origin": "http://localhost:3000"}, True),
        ({"origin": "http://localhost:3000", "sec-fetch-site": "cross-site"}, True),
        ({"origin": "https://127.0.0.1"}, True),
        ({"origin": "capacitor://localhost"}, True),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "http://evil.s3-website-us-east-1.amazonaws.com"}, False),
        ({"origin": "http://localhost.evil.example:3000"}, False),
        ({"origin": "http://foo.localhost:3000"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://[::1"}, False),
        ({"origin": "http://localhost@evil.example"}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        # An image of a page on another port.
        ({"sec-fetch-site": "cross-site", "referer": "http://localhost:3000/"}, True),
        ({"sec-fetch-site": "cross-site", "referer": "https://evil.example/localhost"}, False),
        # A frame.
        (
            {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate",
             "sec-fetch-dest": "iframe"},
            False,
        ),
    ],
)  # fmt: skip
def test_where_a_request_comes_from(door: Door, headers: dict[str, str], allowed: bool) -> None:
    assert ask(door, **headers) is allowed


def test_a_link_or_a_redirect_opens_a_page_of_an_api_only() -> None:
    """OAuth's callback is one."""
    opened = {
        "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"
    }  # fmt: skip
    assert ask(API, **opened)
    assert not ask(API, method="POST", **opened)
    assert not ask(API, origin="https://evil.example", **opened)
    assert not ask(AWS, **opened)
    assert not ask(CONSOLE, **opened)


def test_the_console_answers_its_own_pages_only() -> None:
    own = "127.0.0.1:4566"
    assert ask(CONSOLE, origin=f"http://{own}")
    for origin in ("http://127.0.0.1:3000", "http://localhost:4566", f"https://{own}", "null"):
        assert not ask(CONSOLE, origin=origin)
    assert not ask(CONSOLE, sec_fetch_site="same-site", referer="http://localhost:3000/")


def test_a_request_has_one_host() -> None:
    host = (b"Host", b"localhost")
    assert caller_of([]) is None
    assert caller_of([(b"hosts", b"localhost")]) is None
    assert caller_of([host, host]) is None
    assert caller_of([host, (b"HOST", b"evil.example")]) is None
    assert caller_of([(b"hOsT", b"localhost")]) == Caller(b"localhost")


def test_two_origins_are_nobody_s() -> None:
    pairs = [(b"host", b"localhost")]
    pairs += [(b"origin", b"http://localhost"), (b"Origin", b"http://evil.example")]
    for given in (pairs, pairs[::-1]):
        caller = caller_of(given)
        assert caller is not None
        assert API.refusal("GET", caller) is not None


def test_each_reason_is_told_once() -> None:
    told: list[str] = []
    door = Door(refused=told.append)
    for host in ("evil.example", "evil.example", "other.example"):
        assert door.refusal("GET", Caller(host.encode())) is not None
    assert told == [
        "Host 'evil.example' is not a name of this machine",
        "Host 'other.example' is not a name of this machine",
    ]
