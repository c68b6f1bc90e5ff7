"""``python -m twolane_local.environments.forkserver PARENT_PID CONTROL_FD HANDLER``

Imports what a function's environments share, then forks one environment for each message on the
control socket. Started in the function's directory, with the function's variables.
A message carries a handler, the variables that are not shared (the Runtime API's address, the
function's name), the pipes for output and log, and a connection to the Runtime API that is open
already; the answer is the new process's id. A handler that shares something else is refused: its
environments would hold what they do not need, and count it as their memory. The end of a process is
told as well. All messages are JSON, one a packet.
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
from typing import TYPE_CHECKING, Any, NamedTuple

from twolane_local.environments import child, preload, transport
from twolane_local.leash import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable

LOG_DESCRIPTOR = "_LAMBDA_TELEMETRY_LOG_FD"
_CLIENT = ("json", "http.client", "traceback", "awslambdaric.bootstrap",
           "awslambdaric.lambda_config", "awslambdaric.lambda_runtime_client")  # fmt: skip


def shared_by(handler: str) -> list[str]:
    """The modules that a handler's environments can share."""
    return preload.modules(handler, [Path(os.environ["LAMBDA_TASK_ROOT"])])


def share(modules: list[str]) -> None:
    """Import what can be shared. What fails here fails again, and is reported, where it counts."""
    # The native transport would take the Runtime API's address when it is imported.
    sys.modules["runtime_client"] = transport
    for name in (*_CLIENT, *modules):
        with suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child must not copy what is shared


class Fork(NamedTuple):
    """What a new process is to be: a handler, variables of its own, and three descriptors."""

    handler: str
    own: dict[str, str]
    output: int
    frames: int
    channel: int


def serve(control: socket.socket, serves: Callable[[str], bool] = lambda _: True) -> Fork | None:
    """Fork on demand until the control socket closes; returns ``None`` then.

    A handler that it does not serve is refused. In each new process it returns what that is to be.
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
            asked = json.loads(message)
            if not serves(asked["handler"]):
                for each in descriptors:
                    os.close(each)
                control.send(json.dumps({"refused": asked["handler"]}).encode())
                continue
            pid = os.fork()
            if pid == 0:
                os.close(wake)
                os.close(woken)
                begin(*before)
                return Fork(asked["handler"], asked["own"], *descriptors)
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


def become(fork: Fork) -> None:
    """In the new process: what ``exec`` would have made of it, then the runtime client."""
    os.dup2(fork.output, 1)
    os.dup2(fork.output, 2)
    os.close(fork.output)
    os.environ.update(fork.own)
    os.environ[LOG_DESCRIPTOR] = str(fork.frames)
    transport.adopt(fork.channel)
    try:
        child.run(fork.handler)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def main() -> None:
    parent, control, handler = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    die_with_parent(parent)
    child.guard()
    modules = shared_by(handler)
    share(modules)
    connection = socket.socket(fileno=control)
    # A fork copies one thread: with more, the copy may wait for a lock for ever.
    alone = threading.active_count() == 1
    connection.send(json.dumps({"ready": alone}).encode())
    served = {handler: True}

    def serves(other: str) -> bool:
        if other not in served:
            served[other] = set(shared_by(other)) == set(modules)
        return served[other]

    fork = serve(connection, serves) if alone else None
    connection.close()
    if fork is not None:
        become(fork)


if __name__ == "__main__":
    main()
