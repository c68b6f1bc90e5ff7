"""Lambda: functions, their execution environments, and the API.

``functions``      Runs functions by name; each has its ``pool`` of environments.
``pool``           The environments of one function: reused, grown, ended when idle.
``asynchronous``   Asynchronous invocation: retries, destinations, dead letters.
``api``            The Lambda API; ``response_stream`` is its streaming invocation.
``environment``    The Protocol of an environment, and the work that goes through it.
``inprocess``      An environment in this process.
``isolated``       An environment in a child process, with AWS's own runtime client.
``runtime_api``    The Runtime API and Extensions API that the child process talks to.
``process``        The child process: its output, freeze, thaw, kill.
``fork_launcher``, ``fork_control``  Start environments by fork, from a ``forkserver``.
``snapshot_launcher``  SnapStart: one init, many restores; the child runs ``snapshot``.
``child``, ``transport``, ``plain_client``, ``preload``, ``whereabouts``, ``parent_death``  Run in
                   the function's process, so they import next to nothing.
``report``, ``output``  Lambda's own log lines and errors; what a function writes.
``mounts``         File systems, as folders below ``/mnt`` of the function's process.
``unrunnable``     The environment of a function that cannot run on this machine.
``interpreters``, ``requirements``, ``installation``  Other Pythons; the packages of the code.
"""
