"""``python -m twolane_local.aws.lambda_.snapshot PARENT_PID CONTROL_FD CHANNEL_FD HANDLER``

The process of a function with SnapStart. AWS's runtime client imports the handler and runs the
hooks before the snapshot. When it waits to be restored, the process becomes a fork server: each
environment is a fork, which runs the hooks after the restore and continues with its invocations.
https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html

Problems that a snapshot on Lambda would have are written to the function's log.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import hashlib
import json
import os
import random
import re
import select
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from twolane_local.aws.lambda_ import child, forkserver, framed_log, mounts, transport
from twolane_local.aws.lambda_.parent_death import die_with_parent

_TABLE = Path("/proc/self/fd")
_WATCHED = re.compile(r"^tfd:\s*(\d+)\s+events:\s*([0-9a-f]+)", re.MULTILINE)
_COUNT = re.compile(r"^eventfd-count:\s*([0-9a-f]+)", re.MULTILINE)


def open_descriptors() -> dict[int, str]:
    """Each file descriptor and its target: see proc(5)."""
    found: dict[int, str] = {}
    for one in _TABLE.iterdir():
        with suppress(OSError):  # the descriptor of this listing
            found[int(one.name)] = str(one.readlink())
    return found


def connections() -> dict[str, list[int]]:
    """The connected descriptors, by the address of the other side."""
    found: dict[str, list[int]] = {}
    for fd, link in open_descriptors().items():
        if link.startswith("socket:") and (peer := _peer(fd)):
            found.setdefault(peer, []).append(fd)
    return found


def _peer(fd: int) -> str:
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as copy:
        address: Any = copy.getpeername()
        if isinstance(address, tuple):
            host, port = address[:2]
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return os.fsdecode(address)  # of a Unix socket: empty for a pair's
    return ""


def cut_off(fd: int) -> None:
    """Replace a connection by one whose other side is closed."""
    near, far = socket.socketpair()
    far.close()
    _move_descriptor(near.detach(), fd)


class Unshared:
    """Objects that forks must not share, found before the fork; ``renew`` replaces them after it.

    These are the wake-up sockets of event loops, eventfds, pipes, epolls and thread pools.
    """

    def __init__(self) -> None:
        descriptors = open_descriptors()
        self._epolls = {
            fd: [(int(one), int(events, 16)) for one, events in _WATCHED.findall(_info(fd))]
            for fd, link in descriptors.items()
            if link == "anon_inode:[eventpoll]"
        }
        self._counters = {
            fd: int(found[1], 16)
            for fd, link in descriptors.items()
            if link == "anon_inode:[eventfd]" and (found := _COUNT.search(_info(fd)))
        }
        pipes: dict[str, list[int]] = {}
        for fd, link in descriptors.items():
            if fd > 2 and link.startswith("pipe:"):
                pipes.setdefault(link, []).append(fd)
        # A pipe with only one end here leads to another process.
        self._pipes = [ends for ends in pipes.values() if len(ends) > 1]
        gc.unfreeze()  # frozen objects are not listed
        things = gc.get_objects()
        self._wakers = [
            (near.fileno(), far.fileno())
            for one in things
            if isinstance(one, asyncio.BaseEventLoop)
            and (near := getattr(one, "_ssock", None)) is not None
            and (far := getattr(one, "_csock", None)) is not None
        ]
        self._pools: list[Any] = [one for one in things if isinstance(one, ThreadPoolExecutor)]
        del things
        gc.collect()
        gc.freeze()  # a collection in a child must not copy shared pages

    @property
    def threads(self) -> list[str]:
        """The threads that a copy of the machine would have, but a fork does not."""
        pooled = {thread for pool in self._pools for thread in pool._threads}  # noqa: SLF001
        return [
            thread.name
            for thread in threading.enumerate()
            if thread is not threading.main_thread()
            and thread not in pooled
            and not thread.name.startswith("twolane-")  # the runtime restarts its own
        ]

    def renew(self) -> None:
        """Replace all of them by objects of this process."""
        for near, far in self._wakers:
            for new, old in zip(socket.socketpair(), (near, far), strict=True):
                new.setblocking(False)
                _move_descriptor(new.detach(), old)
        for fd, count in self._counters.items():
            _move_descriptor(os.eventfd(count, os.EFD_NONBLOCK), fd)
        for ends in self._pipes:
            self._renew_pipe(ends)
        for fd, watched in self._epolls.items():
            epoll = select.epoll()
            os.dup2(epoll.fileno(), fd, inheritable=False)
            for one, events in watched:
                with suppress(OSError):  # closed since
                    epoll.register(one, events)
            epoll.close()
        for pool in self._pools:
            pool._threads.clear()  # noqa: SLF001
            pool._idle_semaphore = threading.Semaphore(0)  # noqa: SLF001

    @staticmethod
    def _renew_pipe(ends: list[int]) -> None:
        new = os.pipe()
        for old in ends:
            flags = fcntl.fcntl(old, fcntl.F_GETFL)
            one = new[0 if flags & os.O_ACCMODE == os.O_RDONLY else 1]
            os.set_blocking(one, not flags & os.O_NONBLOCK)
            os.dup2(one, old, inheritable=os.get_inheritable(old))
        for one in new:
            os.close(one)


def _move_descriptor(new: int, old: int) -> None:
    os.dup2(new, old, inheritable=False)
    os.close(new)


def _info(fd: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/self/fdinfo/{fd}").read_text()
    return ""


_PAGE = "https://docs.aws.amazon.com/lambda/latest/dg/snapstart-best-practices.html"


class Snapshot:
    """The snapshot of this process: before the fork, and in each fork until its first event."""

    def __init__(self, control: socket.socket, frames: int) -> None:
        self._control = control
        self._frames = frames
        self._restored = False

    def take(self) -> str:
        """Serve forks. Returns in each copy, with the address of its Runtime API."""
        function = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        unshared = Unshared()
        peers = connections()
        # An extension's connection of the original process.
        own = peers.pop(os.environ["AWS_LAMBDA_RUNTIME_API"], [])
        _warn_of_connections(function, peers)
        _warn_of_threads(function, unshared.threads)
        state = random.getstate()
        self._control.send(json.dumps({"ready": True}).encode())
        fork = forkserver.serve(self._control)
        if fork is None:
            os._exit(0)
        # Python reseeds its generator in a fork; in a snapshot on Lambda nothing does.
        random.setstate(state)
        unshared.renew()
        for one in own:
            cut_off(one)
        for new, old in ((fork.output, 1), (fork.output, 2), (fork.frames, self._frames)):
            os.dup2(new, old, inheritable=False)
        os.close(fork.output)
        os.close(fork.frames)
        os.environ.update(fork.environ)
        transport.adopt(fork.channel)
        return os.environ["AWS_LAMBDA_RUNTIME_API"]

    def restored(self) -> None:
        """After the hooks, report the state that should differ between environments."""
        if not self._restored:
            self._restored = True
            digest = hashlib.sha256(repr(random.getstate()).encode()).hexdigest()
            self._control.send(json.dumps({"random": digest}).encode())
            self._control.close()


def _warn_of_connections(function: str, peers: dict[str, list[int]]) -> None:
    if not peers:
        return
    named = ", ".join(
        f"{one} ({len(all_)})" if len(all_) > 1 else one for one, all_ in peers.items()
    )
    print(  # noqa: T201 (the function's log)
        f"! {function}: the snapshot holds open connections, to {named}: on AWS they are dead in "
        "each environment that is restored from it. Close them in a hook before the snapshot, or "
        f"open them on first use: {_PAGE}",
        flush=True,
    )


def _warn_of_threads(function: str, names: list[str]) -> None:
    if not names:
        return
    print(  # noqa: T201 (the function's log)
        f"! {function}: on AWS the snapshot holds threads ({', '.join(names)}), which continue "
        "after the restore; here, where an environment is a fork, they are gone. Start them in a "
        "hook after the restore, or on first use",
        flush=True,
    )


def main() -> None:
    parent, control, channel = map(int, sys.argv[1:4])
    die_with_parent(parent)
    child.guard()
    mounts.play(os.environ.pop(mounts.VARIABLE, None))
    transport.adopt(channel)
    os.set_inheritable(control, False)
    frames = int(os.environ.pop(framed_log.LOG_DESCRIPTOR))
    os.set_inheritable(frames, False)
    snapshot = Snapshot(socket.socket(fileno=control), frames)
    sys.modules["runtime_client"] = transport
    child.set_up_logging()
    framed_log.log.open(frames)
    from awslambdaric import bootstrap
    from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

    class Client(LambdaRuntimeClient):  # type: ignore[misc]
        """AWS's client; it takes the snapshot when it waits for the restore."""

        def restore_next(self) -> None:
            self.lambda_runtime_address = snapshot.take()

        def wait_next_invocation(self) -> Any:
            snapshot.restored()
            return super().wait_next_invocation()

    bootstrap.run(sys.argv[4], Client(os.environ["AWS_LAMBDA_RUNTIME_API"], False))


if __name__ == "__main__":
    main()
