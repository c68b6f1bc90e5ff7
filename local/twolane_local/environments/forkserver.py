"""``python -m twolane_local.environments.forkserver PARENT_PID CONTROL_FD HANDLER``

Imports what a function's environments share, then forks one environment for each message on the
control socket. Started in the function's directory, with the function's variables but for the
Runtime API's address.
A message carries that address, the pipes for output and log, and a connection to the Runtime API
that is open already; the answer is the new process's
id. The end of a process is told as well. All messages are JSON, one a packet.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from twolane_local.environments import child, preload, transport
from twolane_local.leash import die_with_parent

LOG_DESCRIPTOR = "_LAMBDA_TELEMETRY_LOG_FD"
_CLIENT = ("json", "http.client", "traceback", "awslambdaric.bootstrap",
           "awslambdaric.lambda_config", "awslambdaric.lambda_runtime_client")  # fmt: skip


def share(handler: str) -> None:
    """Import what can be shared. What fails here fails again, and is reported, where it counts."""
    # The native transport would take the Runtime API's address when it is imported.
    sys.modules["runtime_client"] = transport
    task_root = Path(os.environ["LAMBDA_TASK_ROOT"])
    for name in (*_CLIENT, *preload.modules(handler, [task_root])):
        with suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child must not copy what is shared


class Fork(NamedTuple):
    """What a new process is to be: the Runtime API's address, and three file descriptors."""

    api: str
    output: int
    frames: int
    channel: int


def serve(control: socket.socket) -> Fork | None:
    """Fork on demand until the control socket closes; returns ``None`` then.

    In each new process it returns what that is to be.
    """
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    before = signal.set_wakeup_fd(woken), signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake, select.POLLIN)
    children: set[int] = set()
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == wake:
                os.read(wake, 1024)
                reap(control, children)
                continue
            message, descriptors, _, _ = socket.recv_fds(control, 65536, 3)
            if not message:
                return None
            pid = os.fork()
            if pid == 0:
                os.close(wake)
                os.close(woken)
                begin(*before)
                return Fork(json.loads(message)["api"], *descriptors)
            children.add(pid)
            # In both processes: whoever signals the group first finds it.
            with suppress(OSError):
                os.setpgid(pid, pid)
            for each in descriptors:
                os.close(each)
            control.send(json.dumps({"started": pid}).encode())


def reap(control: socket.socket, children: set[int]) -> None:
    """Tell of every process that has ended."""
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            children.discard(pid)
            code = os.waitstatus_to_exitcode(status)
            control.send(json.dumps({"ended": pid, "status": code}).encode())


def begin(wakeup: int, on_child: Any) -> None:
    """In the new process: a group of its own, and signals as they were."""
    os.setpgid(0, 0)
    die_with_parent(os.getppid())
    signal.set_wakeup_fd(wakeup)
    signal.signal(signal.SIGCHLD, on_child)


def become(fork: Fork, handler: str) -> None:
    """In the new process: what ``exec`` would have made of it, then the runtime client."""
    os.dup2(fork.output, 1)
    os.dup2(fork.output, 2)
    os.close(fork.output)
    os.environ["AWS_LAMBDA_RUNTIME_API"] = fork.api
    os.environ[LOG_DESCRIPTOR] = str(fork.frames)
    transport.adopt(fork.channel)
    try:
        child.run(handler)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def main() -> None:
    parent, control, handler = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    die_with_parent(parent)
    child.guard()
    share(handler)
    connection = socket.socket(fileno=control)
    # A fork copies one thread: with more, the copy may wait for a lock for ever.
    alone = threading.active_count() == 1
    connection.send(json.dumps({"ready": alone}).encode())
    fork = serve(connection) if alone else None
    connection.close()
    if fork is not None:
        become(fork, handler)


if __name__ == "__main__":
    main()
