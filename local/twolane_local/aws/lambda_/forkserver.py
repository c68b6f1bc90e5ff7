"""``python -m twolane_local.aws.lambda_.forkserver PARENT_PID CONTROL_FD HANDLER``

Imports what a function's environments share, then forks one environment for each message on the
control socket. Started in the function's directory, with the function's variables.
A message carries a handler, the variables, the pipes for output and log, and a connection to the
Runtime API that is open already; the answer is the new process's id. It is refused where another
function asks for which something else would have been imported, or the same with another outcome:
where its handler imports other libraries, or where these have read a variable that it has another
value of. The end of a process is told as well. All messages are JSON, one a packet.
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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from twolane_local.aws.lambda_ import child, mounts, preload, transport
from twolane_local.aws.lambda_.framed_log import LOG_DESCRIPTOR
from twolane_local.aws.lambda_.parent_death import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: What the interpreter and libraries of C read without a word, some before anything is imported.
_EARLY = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "LC_", "LANG", "TZ", "SSL_", "OPENSSL_", "OMP_",
          "GOMP_", "KMP_", "OPENBLAS_", "MKL_", "BLIS_", "NUMEXPR_", "GRPC_")  # fmt: skip
#: Variables that differ between a function's environments. A library that reads all variables does
#: not mean the stream; one that reads it has its value, and gets a fork server of its own.
_API, _STREAM = "AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_LOG_STREAM_NAME"
_CLIENT = ("json", "http.client", "traceback", "awslambdaric.bootstrap",
           "awslambdaric.lambda_config", "awslambdaric.lambda_runtime_client")  # fmt: skip


def shared_by(handler: str) -> list[str]:
    """The modules that a handler's environments can share."""
    return preload.modules(handler, [Path(os.environ["LAMBDA_TASK_ROOT"])])


@contextmanager
def reading() -> Iterator[set[str]]:
    """The names of the variables that are read meanwhile; ``*`` where all of them are."""
    read: set[str] = set()
    stock: Any = type(os.environ)

    class Noting(stock):  # type: ignore[misc]
        def __getitem__(self, name: str) -> str:
            read.add(name)
            value: str = super().__getitem__(name)
            return value

        def __iter__(self) -> Iterator[str]:
            read.add("*")
            names: Iterator[str] = super().__iter__()
            return names

    os.environ.__class__ = Noting
    try:
        yield read
    finally:
        os.environ.__class__ = stock


def share(modules: list[str]) -> None:
    """Import what can be shared. What fails here fails again, and is reported, where it counts."""
    # The native transport would take the Runtime API's address when it is imported.
    sys.modules["runtime_client"] = transport
    for name in _CLIENT:
        with suppress(Exception):
            importlib.import_module(name)
    child.set_up_logging()
    for name in modules:
        with suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child must not copy what is shared


class Fork(NamedTuple):
    """What a new process is to be: a handler, its variables, and three descriptors."""

    handler: str
    environ: dict[str, str]
    output: int
    frames: int
    channel: int


def serve(
    control: socket.socket, serves: Callable[[dict[str, Any]], bool] = lambda _: True
) -> Fork | None:
    """Fork on demand until the control socket closes; returns ``None`` then.

    What it does not serve is refused. In each new process it returns what that is to be.
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
            message, descriptors, _, _ = socket.recv_fds(control, 1 << 18, 3)
            if not message:
                return None
            asked = json.loads(message)
            if not serves(asked):
                for each in descriptors:
                    os.close(each)
                control.send(json.dumps({"refused": True}).encode())
                continue
            pid = os.fork()
            if pid == 0:
                os.close(wake)
                os.close(woken)
                begin(*before)
                return Fork(asked["handler"], asked["environ"], *descriptors)
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
    fork.environ.pop(child.ALLOW_REAL_AWS, None)  # the guard is up, or not
    mounts.play(fork.environ.pop(mounts.VARIABLE, None))
    os.environ.clear()
    os.environ.update(fork.environ)
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
    os.environ.pop(mounts.VARIABLE, None)  # each fork's own
    modules = shared_by(handler)
    with reading() as read:
        share(modules)
    connection = socket.socket(fileno=control)
    # A fork copies one thread: with more, the copy may wait for a lock for ever.
    alone = threading.active_count() == 1
    connection.send(json.dumps({"ready": alone}).encode())
    environ = dict(os.environ)

    def serves(asked: dict[str, Any]) -> bool:
        asked_for, others = asked["handler"], asked["environ"]
        if any(
            environ.get(name) != others.get(name)
            for name in environ.keys() | others.keys()
            if name != _API
            and not (name == _STREAM and "*" in read)
            and ("*" in read or name in read or name.startswith(_EARLY))
        ):
            return False
        return asked_for == handler or set(shared_by(asked_for)) == set(modules)

    fork = serve(connection, serves) if alone else None
    connection.close()
    if fork is not None:
        become(fork)


if __name__ == "__main__":
    main()
