"""The execution environment that the function runs in: its init, its invocation, its log.

``init_phase`` is about the garbage collector before the first invocation, ``snapshot`` about
SnapStart, ``forks`` about copies of the process. ``invocation`` knows how much time is left,
``logs`` writes the structured lines, and ``telemetry`` sends what monitors hold before a freeze.
"""
