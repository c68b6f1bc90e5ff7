"""``twolane invoke FUNCTION``"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from twolane_local.aws.invocation import target_of
from twolane_local.cli.flags import emulator_options
from twolane_local.errors import LocalError
from twolane_local.journal.lines import EventPrinter
from twolane_local.model import LATEST

if TYPE_CHECKING:
    import argparse

    from twolane_local.aws.invocation import Invocation
    from twolane_local.emulator import Emulator
    from twolane_local.journal import Event
    from twolane_local.model import Stack


#: The longest timeout of a function, and an init before it, in seconds.
_LONGEST_S = 960.0
EXAMPLES = (
    "twolane invoke BeatFunction --event events/beat-tick.json",
    "twolane invoke ApiFunction --event events/api-notify.json --in-process",
    "twolane invoke WorkerFunction --event events/worker-send-notification.json --running",
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("function", metavar="FUNCTION", help="logical id or name")
    parser.add_argument(
        "--event", default=None, metavar="FILE", help="the event's JSON; - is stdin ({})"
    )
    parser.add_argument(
        "--tenant-id",
        default="",
        metavar="ID",
        help="the tenant, for a function that isolates them",
    )
    parser.add_argument(
        "--running",
        action="store_true",
        help="invoke in the running emulator of `twolane up`, with its tables and queues",
    )


def run(options: argparse.Namespace) -> int:
    """Return 0 if the function returned, 1 if it failed."""
    event = _event(options.event)
    if options.running:
        from twolane_local.remote import emulator as address
        from twolane_local.remote.emulator import ControlClient

        folder = None if options.template_named else Path()
        running = address.choose(address.find(), options.template, folder)
        control = ControlClient(running, timeout_s=_LONGEST_S)
        known = {each["logicalId"]: each["name"] for each in control.get("functions")["functions"]}
        name = known.get(options.function, options.function)
        body = {"event": json.loads(event), "tenantId": options.tenant_id or None}
        done = control.post("functions", name, "invoke", body=body)
        print(done["log"], end="", file=sys.stderr)
        print(done["payload"])
        return 1 if done["error"] else 0
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # in-process handlers may print
        outcome = asyncio.run(_invoke(options, event))
    print(outcome.payload.decode("utf-8", "replace"), file=out)
    return 1 if outcome.error else 0


def _event(source: str | None) -> bytes:
    if source is None:
        return b"{}"
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text("utf-8")
        json.loads(text)
    except OSError as error:
        raise LocalError(
            f"{source} cannot be read ({error.strerror}); events/ has examples"
        ) from error
    except ValueError as error:
        raise LocalError(f"{source} is not JSON: {error}") from error
    return text.encode()


async def _invoke(options: argparse.Namespace, event: bytes) -> Invocation:
    from twolane_local.emulator import Emulator

    emulator = Emulator(
        emulator_options(options, port=0, aws_port=0, http=False, sources=False, warm=False)
    )
    emulator.journal.subscribe(EventPrinter(sys.stderr).write)
    await emulator.start()
    try:
        name = function_name(emulator.stack, options.function)
        return await _invoke_to_the_end(emulator, name, event, options.tenant_id)
    finally:
        await emulator.stop()


async def _invoke_to_the_end(
    emulator: Emulator, name: str, event: bytes, tenant_id: str
) -> Invocation:
    """Invoke, and wait for the work that the function does after its response."""
    ended = asyncio.Event()

    def watch(step: Event) -> None:
        if step.kind == "invocation.ended" and step.function == name.partition(":")[0]:
            ended.set()

    emulator.journal.subscribe(watch)
    outcome = await emulator.functions.invoke(name, event, tenant_id=tenant_id)
    if outcome.log_tail():  # it began, so it also ends: at the function's timeout at the latest
        await ended.wait()
    return outcome


def function_name(stack: Stack, wanted: str) -> str:
    """Return the name, with version or alias, of a function given by name, logical id or ARN."""
    given, colon, qualifier = target_of(wanted).partition(":")
    for spec in stack.functions:
        if given in {spec.name, spec.logical_id} and qualifier in {"", LATEST, *spec.qualifiers}:
            return f"{spec.name}{colon}{qualifier}"
    known = ", ".join(spec.logical_id for spec in stack.functions) or "none"
    raise LocalError(f"the template has no function {wanted!r}; it has: {known}")
