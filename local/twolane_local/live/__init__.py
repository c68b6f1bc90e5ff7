"""Faults and invariants against real parts: processes, signals, sockets, a real Redis.

``proxy`` stands before a server and cuts its connections; ``watch`` makes the same facts of a
running emulator that the simulator makes of a virtual one, for the same invariants.
"""

from twolane_local.live.proxy import Proxy
from twolane_local.live.watch import LiveWatch

__all__ = ["LiveWatch", "Proxy"]
