"""Faults and invariants against real parts: processes, signals, sockets, a real Redis.

``proxy`` stands before a server and cuts its connections; ``watch`` makes the same facts of a
running emulator that the simulator makes of a virtual one, for the same invariants; ``stack`` puts
a project on all of it, for the pytest plugin's ``twolane_live``.
"""

from twolane_local.live.proxy import Proxy
from twolane_local.live.watch import LiveWatch

__all__ = ["LiveWatch", "Proxy"]
