"""The hooks as Lambda's runtime runs them: awslambdaric's own runner, in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

HANDLERS = Path(__file__).parents[2] / "handlers"
BEGIN = """
import json, os, random, sys
said = {}
"""
END = """
print(json.dumps(said))
"""
RUN = """
from awslambdaric import lambda_runtime_hooks_runner as runner
"""


def run(script: str, kind: str = "snap-start", **environ: str) -> Any:
    """What the script puts into ``said``."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGIN + RUN + textwrap.dedent(script) + END],
        check=True, capture_output=True, text=True, timeout=60,
        env={
            "PATH": "/usr/bin:/bin", "PYTHONPATH": str(HANDLERS),
            "AWS_LAMBDA_FUNCTION_NAME": "fn", "AWS_LAMBDA_INITIALIZATION_TYPE": kind,
            "AWS_REGION": "us-east-1", **environ,
        },
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def test_ours_close_last_and_renew_first() -> None:
    said = run("""
        import snapshot_restore_py as hooks
        from twolane.environment import snapshot
        order = said["order"] = []

        class Holder:
            def let_go(self):
                order.append("closed")

        kept = Holder()
        hooks.register_before_snapshot(order.append, "application before")
        hooks.register_after_restore(order.append, "application after")
        snapshot.begin(os.environ)
        snapshot.begin(os.environ)
        snapshot.holds(kept)
        snapshot.holds(Holder())  # is gone by then
        snapshot.after_restore(lambda: order.append("renewed"))
        state = random.getstate()
        said["pending"] = [snapshot.pending()]
        runner.run_before_snapshot()
        runner.run_after_restore()
        said["pending"].append(snapshot.pending())
        said["seeded"] = random.getstate() != state
    """)
    assert said["order"] == ["application before", "closed", "renewed", "application after"]
    assert said["pending"] == [True, False]
    assert said["seeded"]


WORKER = """
    import redis
    from celery import Celery, signals
    with redis.Redis.from_url(os.environ["STORE"]) as first:  # other tests' connections
        others = first.info("clients")["connected_clients"] - 1 if first.ping() else 0
        first.connection_pool.disconnect()  # redis-py before 5 does not by itself
    events = said["events"] = []
    for name in ("celeryd_init", "worker_init", "worker_process_init", "worker_ready"):
        getattr(signals, name).connect(lambda name=name, **_: events.append(name), weak=False)
    from twolane import WorkerHandler
    app = Celery("app", broker="sqs://", backend=os.environ["STORE"])
    app.conf.worker_send_task_events = True
    handler = WorkerHandler(app)
"""


def test_a_worker_begins_with_the_restore(redis_url: str) -> None:
    said = run(
        f"""{WORKER}
    consumer = handler._worker.consumer
    listed = lambda: list(app.control.inspect().ping() or ())
    said["before"] = [consumer.hostname, app.oid, app.thread_oid, listed()]
    events.append("snapshot")
    runner.run_before_snapshot()
    runner.run_after_restore()
    said["after"] = [consumer.hostname, app.oid, app.thread_oid, listed()]
    said["same"] = consumer.controller.hostname == consumer.hostname
    said["of events"] = consumer.event_dispatcher.hostname
""",
        STORE=redis_url,
    )
    assert said["events"] == [
        "celeryd_init", "worker_init", "snapshot", "worker_process_init", "worker_ready",
    ]  # fmt: skip
    for before, after in zip(said["before"][:3], said["after"][:3], strict=True):
        assert before != after
    name = said["after"][0]
    assert said["same"]
    assert said["of events"] == name
    assert (said["before"][3], said["after"][3]) == ([], [name])


def test_no_connection_is_open_in_the_snapshot(redis_url: str) -> None:
    said = run(
        f"""{WORKER}
    import redis
    from twolane.state import open_store
    from twolane.worker.aws import Sqs
    own, store = redis.Redis.from_url(os.environ["STORE"]), open_store(app)
    count = lambda: own.info("clients")["connected_clients"] - 1 - others
    store.put("key", "value", ttl_s=60)
    app.AsyncResult("none").state
    app.backend.result_consumer.start("none")  # subscribes
    said["open"] = [count()]
    runner.run_before_snapshot()
    said["open"].append(count())
    runner.run_after_restore()
    said["value"] = store.get_many(["key"])
    said["state"] = app.AsyncResult("none").state
""",
        STORE=redis_url,
    )
    assert said["open"][0] >= 1
    assert said["open"][1] == 0
    assert said["value"] == {"key": "value"}
    assert said["state"] == "PENDING"


def test_the_light_publishers_connection_is_closed() -> None:
    said = run("""
        import socket, threading
        from twolane.environment import snapshot
        from twolane.publish.transport import Endpoint
        from twolane.publish.client import Wire
        server = socket.create_server(("127.0.0.1", 0))
        ended = said["ended"] = []

        def serve():
            while True:
                connection, _ = server.accept()
                while data := connection.recv(65536):
                    connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
                connection.close()
                ended.append(True)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        snapshot.begin(os.environ)
        wire = Wire(Endpoint(False, "127.0.0.1", server.getsockname()[1]))
        said["answers"] = [wire.post({}, b"x", timeout_s=5).status]
        runner.run_before_snapshot()
        runner.run_after_restore()
        said["answers"].append(wire.post({}, b"x", timeout_s=5).status)
    """)
    # The second is on a connection of its own: the server had to see the end of the first.
    assert said == {"answers": [200, 200], "ended": [True]}


@pytest.mark.parametrize(
    ("kind", "hidden"), [("on-demand", False), ("snap-start", True)], ids=["off", "no library"]
)
def test_without_a_snapshot_a_worker_begins_in_init(
    redis_url: str, kind: str, hidden: bool
) -> None:
    hide = 'sys.modules["snapshot_restore_py"] = None' if hidden else ""
    said = run(
        f"""
    for name in ("snapshot_restore_py", "awslambdaric.lambda_runtime_hooks_runner"):
        sys.modules.pop(name, None)
    {hide}
{WORKER}
    said["imported"] = sys.modules.get("snapshot_restore_py") is not None
    said["renewal"] = "twolane.patches.snapshot" in sys.modules
""",
        kind=kind,
        STORE=redis_url,
    )
    assert said["events"] == ["celeryd_init", "worker_init", "worker_process_init", "worker_ready"]
    assert not said["imported"]
    assert not said["renewal"]
