"""What a copy by ``fork`` shares with its siblings, and a copy of a whole machine does not.

Forks share what their file descriptors lead to: two event loops would take each other's events from
one epoll, and each other's wake-ups from one pipe. So each gets its own, below the same numbers.
Threads are not in a fork, and pools that count on theirs would wait for them for ever.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import re
import select
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

_TABLE = Path("/proc/self/fd")
_WATCHED = re.compile(r"^tfd:\s*(\d+)\s+events:\s*([0-9a-f]+)", re.MULTILINE)
_COUNT = re.compile(r"^eventfd-count:\s*([0-9a-f]+)", re.MULTILINE)


def open_descriptors() -> dict[int, str]:
    """Each file descriptor, and what it leads to: see proc(5)."""
    found: dict[int, str] = {}
    for one in _TABLE.iterdir():
        with suppress(OSError):  # the one that lists them
            found[int(one.name)] = str(one.readlink())
    return found


def connections() -> dict[str, list[int]]:
    """By the address of the other side, what is connected."""
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
    """Have a connection whose other side is gone in its place."""
    near, far = socket.socketpair()
    far.close()
    _put(near.detach(), fd)


class Unshared:
    """Looks what there is before the fork; ``renew`` is for each new process."""

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
        # One end alone leads out of this process, and belongs to whoever is there.
        self._pipes = [ends for ends in pipes.values() if len(ends) > 1]
        gc.unfreeze()  # what is frozen is not listed
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
        gc.freeze()  # a collection in a child must not copy what is shared

    @property
    def threads(self) -> list[str]:
        """The threads that a copy of the machine would have, and a fork has not."""
        pooled = {thread for pool in self._pools for thread in pool._threads}  # noqa: SLF001
        return [
            thread.name
            for thread in threading.enumerate()
            if thread is not threading.main_thread()
            and thread not in pooled
            and not thread.name.startswith("twolane-")  # the runtime's own begin anew
        ]

    def renew(self) -> None:
        """Make everything this process's own."""
        for near, far in self._wakers:
            for new, old in zip(socket.socketpair(), (near, far), strict=True):
                new.setblocking(False)
                _put(new.detach(), old)
        for fd, count in self._counters.items():
            _put(os.eventfd(count, os.EFD_NONBLOCK), fd)
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


def _put(new: int, old: int) -> None:
    os.dup2(new, old, inheritable=False)
    os.close(new)


def _info(fd: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/self/fdinfo/{fd}").read_text()
    return ""
