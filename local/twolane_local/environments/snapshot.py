"""``python -m twolane_local.environments.snapshot PARENT_PID CONTROL_FD CHANNEL_FD HANDLER``

A function with SnapStart, up to its snapshot: AWS's runtime client imports the handler and runs the
hooks of before the snapshot. Then, where it waits to be restored, the process becomes a fork
server: each environment is a fork from there, which runs the hooks of after the restore and goes on
with its invocations. https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html

What would be wrong in a snapshot of Lambda's is said in the function's log.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import sys
from typing import Any

from twolane_local.environments import child, forkserver, transport
from twolane_local.environments.unshared import Unshared, connections, cut_off
from twolane_local.leash import die_with_parent

_PAGE = "https://docs.aws.amazon.com/lambda/latest/dg/snapstart-best-practices.html"


class Snapshot:
    """This process before it is copied, and each copy until it takes its first event."""

    def __init__(self, control: socket.socket, frames: int) -> None:
        self._control = control
        self._frames = frames
        self._restored = False

    def take(self) -> str:
        """Let it be copied. Returns in each copy, with the address of the Runtime API."""
        function = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        unshared = Unshared()
        peers = connections()
        # An extension's, of the process that the snapshot is taken of.
        own = peers.pop(os.environ["AWS_LAMBDA_RUNTIME_API"], [])
        for line in (*_connected(function, peers), *_threads(function, unshared.threads)):
            print(line, flush=True)  # noqa: T201 (the function's log)
        state = random.getstate()
        self._control.send(json.dumps({"ready": True}).encode())
        fork = forkserver.serve(self._control)
        if fork is None:
            os._exit(0)
        # Python seeds its generator anew in a fork, and nothing does it in a snapshot of Lambda's.
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
        """The hooks are done: say what is to be another in each environment."""
        if not self._restored:
            self._restored = True
            digest = hashlib.sha256(repr(random.getstate()).encode()).hexdigest()
            self._control.send(json.dumps({"random": digest}).encode())
            self._control.close()


def _connected(function: str, peers: dict[str, list[int]]) -> list[str]:
    if not peers:
        return []
    named = ", ".join(
        f"{one} ({len(all_)})" if len(all_) > 1 else one for one, all_ in peers.items()
    )
    line = (
        f"! {function}: the snapshot holds open connections, to {named}: on AWS they are dead in "
        "each environment that is restored from it. Close them in a hook before the snapshot, or "
        f"open them on first use: {_PAGE}"
    )
    return [line]


def _threads(function: str, names: list[str]) -> list[str]:
    if not names:
        return []
    line = (
        f"! {function}: on AWS the snapshot holds threads ({', '.join(names)}), which run on after "
        "the restore; here, where an environment is a fork, they are gone. Start them in a hook "
        "after the restore, or on first use"
    )
    return [line]


def main() -> None:
    parent, control, channel = map(int, sys.argv[1:4])
    die_with_parent(parent)
    child.guard()
    transport.adopt(channel)
    os.set_inheritable(control, False)
    frames = int(os.environ[forkserver.LOG_DESCRIPTOR])
    os.set_inheritable(frames, False)
    snapshot = Snapshot(socket.socket(fileno=control), frames)
    sys.modules["runtime_client"] = transport
    from awslambdaric import bootstrap
    from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

    class Client(LambdaRuntimeClient):  # type: ignore[misc]
        """AWS's, whose wait for the restore is the snapshot."""

        def restore_next(self) -> None:
            self.lambda_runtime_address = snapshot.take()

        def wait_next_invocation(self) -> Any:
            snapshot.restored()
            return super().wait_next_invocation()

    bootstrap.run(sys.argv[4], Client(os.environ["AWS_LAMBDA_RUNTIME_API"], False))


if __name__ == "__main__":
    main()
