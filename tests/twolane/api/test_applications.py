"""What ApiHandler is given, and WSGI applications behind it: Flask, and bare callables."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import celery
import flask
import pytest
from fastapi import FastAPI
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from twolane import ApiHandler
from twolane.api.applications import Wsgi, as_asgi
from twolane.environment.logs import correlation
from twolane.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HELLO = b"hello"


async def asgi3(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": HELLO})


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [HELLO]


class Asgi3:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await asgi3(scope, receive, send)


def not_async(scope: Any, receive: Any, send: Any) -> Any:
    return asgi3(scope, receive, send)


class Asgi3Awaited:
    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self._call = asgi3(scope, receive, send)

    def __await__(self) -> Any:
        return self._call.__await__()


class Asgi2:
    def __init__(self, scope: Any) -> None:
        self._scope = scope

    async def __call__(self, receive: Any, send: Any) -> None:
        await asgi3(self._scope, receive, send)


class WsgiClass:
    def __init__(self, environ: Any, start_response: Any) -> None:
        self._answer = wsgi(environ, start_response)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._answer)


class WsgiObject:
    def __call__(self, environ: Any, start_response: Any, *, debug: bool = False) -> Any:
        return wsgi(environ, start_response)


class Bound:
    def serve(self, environ: Any, start_response: Any, extra: Any = None) -> Any:
        return wsgi(environ, start_response)

    async def serve_asgi(self, scope: Any, receive: Any = None, send: Any = None) -> None:
        await asgi3(scope, receive, send)


def any_arguments(app: Any) -> Any:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return app(*args, **kwargs)

    return wrapper


def known_arguments(app: Any) -> Any:
    return functools.wraps(app)(any_arguments(app))


def any_arguments_async(app: Any) -> Any:
    async def wrapper(*args: Any) -> None:
        await app(*args)

    return wrapper


def configured(settings: Any, environ: Any, start_response: Any) -> Any:
    return wsgi(environ, start_response)


async def configured_asgi(settings: Any, scope: Any, receive: Any, send: Any) -> None:
    await asgi3(scope, receive, send)


ASGI = {
    "function": asgi3,
    "instance": Asgi3(),
    "class that is awaited": Asgi3Awaited,
    "bound method with defaults": Bound().serve_asgi,
    "partial": functools.partial(configured_asgi, {}),
    "wrapped": known_arguments(asgi3),
    "wrapped without a trace": any_arguments(asgi3),
    "wrapped by a coroutine": any_arguments_async(asgi3),
    "a middleware with its call in a slot": SentryAsgiMiddleware(asgi3),
    "not async": not_async,
    "ASGI 2 class": Asgi2,
    "ASGI 2 function": lambda scope: functools.partial(asgi3, scope),
}
WSGI = {
    "function": wsgi,
    "instance": WsgiObject(),
    "class": WsgiClass,
    "bound method with a third argument": Bound().serve,
    "partial": functools.partial(configured, {}),
    "wrapped": known_arguments(wsgi),
    "wrapped without a trace": any_arguments(wsgi),
    "middleware": ProxyFix(wsgi),
}


@pytest.mark.parametrize("app", ASGI.values(), ids=ASGI)
def test_asgi_is_served_as_such(api: Any, http_event: Any, context: Any, app: Any) -> None:
    handler = api(app, lifespan="off")
    assert handler(http_event(), context)["body"] == "hello"
    assert not isinstance(as_asgi(app), Wsgi)


@pytest.mark.parametrize("app", WSGI.values(), ids=WSGI)
def test_wsgi_is_served_as_such(api: Any, http_event: Any, context: Any, app: Any) -> None:
    assert api(app)(http_event(), context)["body"] == "hello"


def create_app() -> FastAPI:
    return FastAPI()


NEITHER: dict[str, tuple[Any, str]] = {
    "nothing": (None, "got builtins.NoneType, which is neither an ASGI"),
    "a name": ("shop.api:app", "got 'shop.api:app'.* a name is not looked up"),
    "a module": (sys, r"the module sys.* as ApiHandler\(sys\.app\)"),
    "a factory": (create_app, r"call it: ApiHandler\(create_app\(\)\)"),
    "a framework's class": (FastAPI, r"the class fastapi\.applications\.FastAPI.* an instance"),
    "an application's class": (Asgi3, "Give it an instance"),
    "Celery": (celery.Celery("shop", set_as_current=False), "to WorkerHandler or BeatHandler"),
    "a function of four": (lambda a, b, c, d: None, "which is neither"),
}


@pytest.mark.parametrize(("given", "says"), NEITHER.values(), ids=NEITHER)
def test_what_is_neither_is_refused_with_advice(given: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        ApiHandler(given, environ={})


def test_a_missing_adapter_says_what_to_install() -> None:
    script = (
        "import sys\n"
        "sys.modules['a2wsgi'] = None\n"
        "from twolane import ApiHandler\n"
        "ApiHandler(lambda environ, start_response: [], environ={})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "MissingAdapterError: This is a WSGI application" in done.stderr
    assert "pip install a2wsgi" in done.stderr


def test_an_asgi_application_needs_no_adapter() -> None:
    script = (
        "import sys\n"
        "sys.modules['a2wsgi'] = None\n"
        "from fastapi import FastAPI\n"
        "from twolane import ApiHandler\n"
        "ApiHandler(FastAPI(), environ={}).close()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.fixture
def shop(seen: list[Any]) -> flask.Flask:
    app = flask.Flask("shop")

    @app.teardown_request
    def teardown(error: Any) -> None:
        seen.append("teardown")

    @app.get("/stream")
    def stream() -> flask.Response:
        @flask.stream_with_context
        def parts() -> Iterable[str]:
            for number in range(30):
                yield f"{flask.request.args['word']}{number} "

        response = flask.Response(parts())
        response.call_on_close(lambda: seen.append("closed"))
        return response

    @app.get("/later")
    def later() -> str:
        @flask.after_this_request
        def mark(response: flask.Response) -> flask.Response:
            response.headers["X-After"] = "yes"
            response.set_cookie("one", "1")
            response.set_cookie("two", "2")
            return response

        return "later"

    @app.post("/echo")
    def echo() -> dict[str, Any]:
        return {"json": flask.request.get_json(), "length": flask.request.content_length}

    @app.get("/where")
    def where() -> dict[str, Any]:
        told = {
            "thread": threading.get_ident(),
            "correlation": correlation.get(),
            "cookies": flask.request.cookies,
            "url": flask.request.url,
            "address": flask.request.remote_addr,
        }
        seen.append(told)
        return told

    @app.get("/boom")
    def boom() -> str:
        raise RuntimeError("boom")

    return app


def test_a_stream_arrives_whole_and_is_closed(
    api: Any, http_event: Any, context: Any, shop: flask.Flask, seen: list[Any]
) -> None:
    answer = api(shop)(http_event(path="/stream", rawQueryString="word=w"), context)
    assert answer["statusCode"] == 200
    assert answer["body"].split() == [f"w{number}" for number in range(30)]
    here, seen[:] = sorted(seen), []
    with shop.test_client() as client:
        client.get("/stream?word=w").close()
    assert here == sorted(seen)
    assert {"closed", "teardown"} == set(seen)


def test_after_this_request_may_still_change_the_response(
    api: Any, http_event: Any, context: Any, shop: flask.Flask
) -> None:
    answer = api(shop)(http_event(path="/later"), context)
    assert answer["headers"]["x-after"] == "yes"
    assert answer["cookies"] == ["one=1; Path=/", "two=2; Path=/"]


@pytest.mark.parametrize("headers", [{}, {"content-length": "11"}], ids=["without", "with"])
def test_a_body_is_read_whether_or_not_its_length_is_among_the_headers(
    api: Any, http_event: Any, context: Any, shop: flask.Flask, headers: dict[str, str]
) -> None:
    event = http_event("POST", "/echo", body='{"a": "ä"}')
    event["headers"].update(headers)
    answer = api(shop)(event, context)
    assert answer["body"].strip() == '{"json":{"a":"\\u00e4"},"length":11}'


def test_a_request_has_its_url_its_cookies_and_the_caller(
    api: Any, http_event: Any, context: Any, shop: flask.Flask, seen: list[Any]
) -> None:
    event = http_event(path="/where", rawQueryString="q=1", cookies=["a=1", "b=2"])
    api(shop)(event, context)
    [told] = [each for each in seen if each != "teardown"]
    assert told["url"] == "https://id.execute-api.us-east-1.amazonaws.com/where?q=1"
    assert dict(told["cookies"]) == {"a": "1", "b": "2"}
    assert told["address"] == "203.0.113.7"
    assert told["correlation"]["requestId"] == context.aws_request_id


def test_every_request_runs_in_the_same_thread(
    api: Any, http_event: Any, context: Any, shop: flask.Flask, seen: list[Any]
) -> None:
    handler = api(shop)
    for _ in range(3):
        handler(http_event(path="/where"), context)
    assert len({told["thread"] for told in seen if told != "teardown"}) == 1


def test_an_error_that_the_application_does_not_catch_is_a_500_and_the_next_one_is_served(
    api: Any, http_event: Any, context: Any, caplog: Any
) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/boom":
            raise RuntimeError("boom")
        return wsgi(environ, start_response)

    handler = api(app)
    assert handler(http_event(path="/boom"), context)["statusCode"] == 500
    assert "RuntimeError: boom" in caplog.text
    assert handler(http_event(), context)["statusCode"] == 200


def test_what_is_left_for_the_close_runs_after_the_response(
    held: Any, http_event: Any, context: Any
) -> None:
    app = flask.Flask("shop")
    may, done = threading.Event(), threading.Event()

    @app.get("/")
    def index() -> flask.Response:
        response = flask.Response("ok")
        response.call_on_close(lambda: may.wait(30) and done.set())
        return response

    handler = held(app)
    assert handler(http_event(), context)["body"] == "ok"
    assert not done.is_set()
    may.set()
    handler.finish(context)
    assert done.is_set()


def test_an_application_without_lifespan_starts_without_a_traceback(
    api: Any, http_event: Any, context: Any, caplog: Any
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":  # as Django's
            raise ValueError(f"Django can only handle ASGI/HTTP connections, not {scope['type']}.")
        await asgi3(scope, receive, send)

    with caplog.at_level("INFO"):
        handler = api(app)
    assert "ASGI 'lifespan' protocol appears unsupported." in caplog.text
    assert [each for each in caplog.records if each.exc_info] == []
    assert handler(http_event(), context)["body"] == "hello"


def test_a_startup_that_breaks_is_told_with_its_traceback(api: Any, caplog: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ValueError("no DATABASE_URL")

    api(app)
    assert "no DATABASE_URL" in caplog.text
