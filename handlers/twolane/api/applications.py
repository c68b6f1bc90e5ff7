"""The application of an ``ApiHandler``: ASGI 3, ASGI 2 or WSGI, told apart by how it is called.

============  ==================================  =======================================
ASGI 3        ``app(scope, receive, send)``       FastAPI, Starlette, Django's ``asgi.py``
ASGI 2        ``app(scope)(receive, send)``       older Channels
WSGI          ``app(environ, start_response)``    Flask, Django's ``wsgi.py``
============  ==================================  =======================================

A WSGI application runs behind a2wsgi, in one thread that lasts as long as the environment: what it
keeps for each thread, as Django keeps its database connections, is there for the next request.
asgiref's adapter does not call ``close()`` on the response, on which Django's ``request_finished``
and Flask's ``call_on_close`` depend. Here it runs once the response has left, as background tasks
do. https://peps.python.org/pep-3333/
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import io
import sys
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, cast

from twolane.errors import ConfigurationError, TwolaneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mangum.types import ASGI, Receive, Scope, Send


#: Where a request's call is in its ASGI scope, on the way to the WSGI application.
_CALL = "twolane.call"


class MissingAdapterError(TwolaneError, ImportError):
    """This is a WSGI application, which ApiHandler serves through a2wsgi, and that is not
    installed. Add it to the function's requirements: ``pip install a2wsgi``
    """


def as_asgi(app: Any) -> ASGI:
    """The application as ASGI 3. Raises ``ConfigurationError`` where it is neither ASGI nor WSGI,
    and ``MissingAdapterError`` for WSGI without a2wsgi.
    """
    if not callable(app):
        raise ConfigurationError(_refusal(app))
    if inspect.isclass(app):
        return _class_as_asgi(app)
    if _is_async(app):
        if _can_take(app, 3):
            return cast("ASGI", app)
        raise ConfigurationError(_refusal(app))
    takes = _takes(app)
    if takes == {3}:
        return cast("ASGI", app)
    if takes == {1}:
        return _of_asgi2(app)
    if takes == {2}:
        return Wsgi(app)
    if not takes:
        raise ConfigurationError(_refusal(app))
    return cast("ASGI", app) if _answers_as_asgi3(app) else Wsgi(app)


def _takes(app: Any) -> set[int]:
    """With how many positional arguments, of 1 to 3, it is meant to be called: several where it
    takes any. ``def app(environ, start_response, more=None)`` is meant to be called with two.
    """
    found = {number for number in (1, 2, 3) if _can_take(app, number)}
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return found
    variadic = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    return found if variadic or not found or _can_take(app, 0) else {min(found)}


def _can_take(app: Any, number: int) -> bool:
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):  # a callable from C, which does not say what it takes
        return True
    return _binds(signature, number)


def _binds(signature: inspect.Signature, number: int) -> bool:
    try:
        signature.bind(*[None] * number)
    except TypeError:
        return False
    return True


def _is_async(app: Any) -> bool:
    while isinstance(app, functools.partial):
        app = app.func
    app = inspect.unwrap(app)
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(
        inspect.unwrap(getattr(app, "__call__", app))  # noqa: B004 - the method, if there is one
    )


def _class_as_asgi(app: Any) -> ASGI:
    """A class that is itself the application: each call of it, an instance, serves one request."""
    if hasattr(app, "__await__") and _can_take(app, 3):
        return cast("ASGI", app)
    if hasattr(app, "__iter__") and _can_take(app, 2):
        return Wsgi(app)
    call = getattr(app, "__call__", None)  # noqa: B004 - of its instances
    if inspect.iscoroutinefunction(call) and _takes(call) == {3}:  # self, receive, send
        return _of_asgi2(app)
    raise ConfigurationError(_refusal(app))


def _answers_as_asgi3(app: Callable[..., Any]) -> bool:
    """True if a wrapper that takes any arguments hands three of them to an ASGI application. The
    coroutine that it answers with is not run.
    """

    async def unused(*_: Any) -> Any:
        raise AssertionError

    try:
        answer = app({"type": "lifespan", "asgi": {"version": "3.0"}}, unused, unused)
    except Exception:  # noqa: BLE001 - whatever a WSGI application makes of it
        return False
    if inspect.iscoroutine(answer):
        answer.close()
        return True
    return inspect.isawaitable(answer)


def _of_asgi2(app: Callable[[Any], Any]) -> ASGI:
    async def asgi3(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope)(receive, send)

    return asgi3


def _refusal(app: Any) -> str:
    kind = type(app)
    name = f"{kind.__module__}.{kind.__qualname__}"
    advice = "Give it the application, as ApiHandler(app)"
    if inspect.isclass(app):
        name = f"the class {app.__module__}.{app.__qualname__}"
        advice = "Give it an instance"
    elif kind.__module__.partition(".")[0] == "celery":
        advice = "A Celery application belongs to WorkerHandler or BeatHandler"
    elif inspect.ismodule(app):
        name = f"the module {app.__name__}"
        advice = f"Give it the application in it, as ApiHandler({app.__name__}.app)"
    elif isinstance(app, str):
        name = repr(app)
        advice = "Import the application and give it that; a name is not looked up"
    elif inspect.isfunction(app):
        name = f"the function {app.__module__}.{app.__qualname__}"
        if not inspect.signature(app).parameters:
            advice = f"If it makes the application, call it: ApiHandler({app.__name__}())"
    return (
        f"ApiHandler got {name}, which is neither an ASGI application, called with (scope, "
        f"receive, send), nor a WSGI application, called with (environ, start_response). {advice}"
    )


class Wsgi:
    """A WSGI application as ASGI 3."""

    def __init__(self, app: Any) -> None:
        try:
            from a2wsgi import WSGIMiddleware
        except ModuleNotFoundError as error:
            if error.name != "a2wsgi":
                raise
            raise MissingAdapterError from error
        call: Any = _Call.of(app)
        self._adapter: Any = WSGIMiddleware(call, workers=1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        call = _Call(message.get("body", b""))
        last: list[Any] = []

        async def all_but_the_last(message: Any) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body")
            await (_keep(last, message) if is_last else send(message))

        try:
            await self._adapter({**scope, _CALL: call}, receive, all_but_the_last)
        finally:
            # The response is complete once the thread is free: what is left comes after it.
            for message in last:
                await send(message)
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._adapter.executor, call.end)

    def close(self) -> None:
        """End the thread that the application runs in."""
        self._adapter.executor.shutdown()


async def _keep(kept: list[Any], message: Any) -> None:
    kept.append(message)


class _Call:
    """One call of a WSGI application, from its start to its ``close()`` in one context."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._context = copy_context()
        self._answer: Any = None
        self._chunks: Iterator[bytes] = iter(())

    @staticmethod
    def of(app: Any) -> Callable[[dict[str, Any], Any], _Call]:
        """The application as a2wsgi calls it."""

        def with_body(environ: dict[str, Any], start_response: Any) -> _Call:
            call: _Call = environ["asgi.scope"].pop(_CALL)
            return call.start(app, environ, start_response)

        return with_body

    def start(self, app: Any, environ: dict[str, Any], start_response: Any) -> _Call:
        # The length of what is here: API Gateway leaves the header out of a REST API's events, and
        # without it Flask and Django read no body. (a2wsgi's stream has no lines of a given size.)
        environ["CONTENT_LENGTH"] = str(len(self._body))
        environ["wsgi.input"] = io.BytesIO(self._body)
        environ["wsgi.input_terminated"] = True
        environ["wsgi.errors"] = sys.stderr
        environ["wsgi.multithread"] = False
        headers = environ["asgi.scope"]["headers"]
        cookies = [value for name, value in headers if name == b"cookie"]
        if len(cookies) > 1:  # joined by a comma, as other headers are, they are not read
            environ["HTTP_COOKIE"] = b"; ".join(cookies).decode("latin-1")
        self._answer = self._context.run(app, environ, start_response)
        self._chunks = self._context.run(iter, self._answer)
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._context.run(next, self._chunks)

    def end(self) -> None:
        """Close the answer, as a server does once it has left."""
        close = getattr(self._answer, "close", None)
        if close is not None:
            self._context.run(close)
