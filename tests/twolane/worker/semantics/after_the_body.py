"""Tasks of which something fails once their bodies have ended: every hook, every kind of error.

``python -m celery -A after_the_body worker`` runs them on a stock worker.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import redis
from celery import VERSION, Celery, Task, chord, signals
from celery.exceptions import Reject

if TYPE_CHECKING:
    from collections.abc import Callable

#: The application's own Redis may raise what the result store's does.
ERRORS: dict[str, type[BaseException]] = {
    "value": ValueError,
    "os": ConnectionResetError,
    "redis": redis.ConnectionError,
    "timeout": TimeoutError,
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
    "reject": Reject,
}

#: Outcome of a task that has run once, by the hook that fails. A stock worker's, see the test.
SUCCEEDS, FAILS = "SUCCESS", "FAILURE"
_BY_HOOK = {
    "on_success": SUCCEEDS,
    "on_failure": FAILS,
    "after_return": SUCCEEDS,
    "after_failure": FAILS,
    "success_signal": SUCCEEDS,
    "failure_signal": FAILS,
    "postrun_signal": SUCCEEDS,
    "link": FAILS,
    "chain": FAILS,
    "errback": FAILS,
    "encoding": FAILS,
}
#: Where a stock worker loses its process before the outcome is stored, the worker's loss is it.
EXPECTED = {f"{hook}-{error}": state for hook, state in _BY_HOOK.items() for error in ERRORS} | {
    # Celery 5.6 stores nothing for what follows a task and is rejected.
    **({"link-reject": "PENDING", "chain-reject": "PENDING"} if VERSION[:2] == (5, 6) else {}),
    "arity": FAILS,
    "unencodable": FAILS,
    "body": SUCCEEDS,
    "joined": SUCCEEDS,
}

Signatures = dict[str, "Callable[[], Any]"]


def add_tasks(  # noqa: C901 - an application, in one piece
    app: Celery, note: Callable[[str], object], **options: Any
) -> Signatures:
    """The application's tasks; what applies each of them. ``note`` is told of each run."""
    raising: dict[str, type[BaseException]] = {}

    def strike(name: str) -> None:
        if name in raising:
            raise raising[name]("after the end")

    for signal in (signals.task_success, signals.task_failure, signals.task_postrun):
        hook = f"{signal.name.removeprefix('task_')}_signal"

        def receiver(sender: Any, hook: str = hook, **_: Any) -> None:
            if sender.name.startswith(hook):
                strike(sender.name)

        signal.connect(receiver, weak=False, dispatch_uid=f"after-{hook}")

    class Struck(Task):  # type: ignore[type-arg]
        """Fails in the hook that its name says."""

        def on_success(self, *_: Any) -> None:
            self._strike("on_success")

        def on_failure(self, *_: Any) -> None:
            self._strike("on_failure")

        def after_return(self, *_: Any) -> None:
            self._strike("after_return", "after_failure")

        def _strike(self, *hooks: str) -> None:
            if self.name.startswith(hooks):
                strike(str(self.name))

    class Unsendable(Task):  # type: ignore[type-arg]
        """Its publish fails."""

        def apply_async(self, *_: Any, **__: Any) -> Any:
            strike(str(self.name))

    class Raising:
        """Cannot be encoded."""

        def __init__(self, name: str) -> None:
            self.name = name

        def __json__(self) -> Any:
            strike(self.name)

    def make(name: str, result: Any = 1, *, fails: bool = False) -> Any:
        @app.task(shared=False, name=name, base=Struck, **options)
        def body() -> Any:
            note(name)
            if fails:
                raise LookupError("its own")
            return result

        return body

    made: Signatures = {}
    for error, kind in ERRORS.items():
        target = f"unsendable-{error}"
        raising[target] = kind

        @app.task(shared=False, name=target, base=Unsendable)
        def unsendable(*_: object) -> None:
            """Never comes to a worker."""

        for hook, state in _BY_HOOK.items():
            name = f"{hook}-{error}"
            fails = state == FAILS and hook not in {"link", "chain", "encoding"}
            result = Raising(name) if hook == "encoding" else 1
            task = make(name, result, fails=fails)
            if hook not in {"link", "chain", "errback"}:
                raising[name] = kind
            made[name] = {
                "link": lambda task=task, to=unsendable: task.apply_async(link=to.s()),
                "errback": lambda task=task, to=unsendable: task.apply_async(link_error=to.si()),
                "chain": lambda task=task, to=unsendable: (task.si() | to.s()).apply_async().parent,
            }.get(hook, task.apply_async)

    @app.task(shared=False, name="three", bind=True)
    def three(self: Any, request: Any, exc: Any, traceback: Any) -> None:
        """A bound errback of three arguments, of which a signature has taken some."""

    arity, unencodable = make("arity", fails=True), make("unencodable", object())
    made["arity"] = lambda: arity.apply_async(link_error=three.s(1, 2, 3, 4))
    made["unencodable"] = unencodable.apply_async
    lost, joined = make("body"), make("joined")
    made["body"] = lambda: chord([lost.si()])(app.tasks["unsendable-value"].s()).parent[0]
    made["joined"] = lambda: chord([joined.si()])(three.s(1, 2, 3, 4)).parent[0]
    return made


def stock_app() -> Celery:
    """For a stock worker: broker and results in the Redis that the environment names."""
    url = os.environ["AFTER_REDIS"]
    app = Celery("after_the_body", broker=url, backend=url)
    app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)
    return app


if "AFTER_REDIS" in os.environ:
    app = stock_app()
    late = os.environ["AFTER_LATE"] == "1"
    client = redis.Redis.from_url(os.environ["AFTER_REDIS"])
    made = add_tasks(app, lambda name: client.incr(f"ran:{name}"), acks_late=late)
