"""``twolane up``"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import signal
import sys
import webbrowser
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from twolane_local.aws.lambda_.unrunnable import FEW
from twolane_local.cli.flags import emulator_options
from twolane_local.emulator.sam_local import HOST, served
from twolane_local.journal.lines import EventPrinter

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.clock import Clock
    from twolane_local.emulator import Emulator
    from twolane_local.journal import Event
    from twolane_local.model import Addresses


EXAMPLES = (
    "twolane up",
    "twolane up --debug --port 8000",
    "twolane up --persist .local --json",
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=3000, help="the HTTP API's port (3000)")
    parser.add_argument("--aws-port", type=int, default=4566, help="the AWS endpoint's port (4566)")
    parser.add_argument(
        "--persist",
        type=Path,
        default=None,
        metavar="DIR",
        help="keep queues, tables and the store in DIR across restarts",
    )
    parser.add_argument(
        "--debug", action="store_true", help="--in-process without timeouts, for breakpoints"
    )
    parser.add_argument(
        "--no-reload", action="store_true", help="do not reload when the source changes"
    )
    parser.add_argument(
        "--build",
        action="store_true",
        help="install each function's requirements.txt first, into a cache",
    )
    parser.add_argument(
        "--real-cold-starts",
        action="store_true",
        help="let each environment import everything itself (slower, real init durations)",
    )
    parser.add_argument(
        "--console-port", type=int, default=0, metavar="N", help="the web console's port (any)"
    )
    parser.add_argument("--open", action="store_true", help="open the console in a browser")
    parser.add_argument("--no-console", action="store_true", help="serve no console")
    parser.add_argument("--no-http", action="store_true", help="serve no HTTP API")
    parser.add_argument(
        "--allow-host",
        dest="allowed_hosts",
        action="append",
        type=_host,
        default=[],
        metavar="NAME",
        help="a further name of this machine (a tunnel's, .name for all below); may be repeated",
    )
    parser.add_argument(
        "--sam-local",
        type=Path,
        default=None,
        metavar="FILE",
        help="let functions in `sam local`'s containers use this; writes its --env-vars FILE",
    )
    parser.add_argument(
        "--json", action="store_true", help="print all addresses as one line of JSON"
    )
    parser.add_argument("--verbose", action="store_true", help="also the steps in between")
    parser.add_argument("--quiet", action="store_true", help="do not print the steps")


def _host(text: str) -> str:
    """A name as a Host header has it; its port is any."""
    if re.fullmatch(r"\.?[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a host's name: no scheme, path or port")
    return text


def run(options: argparse.Namespace) -> int:
    """Run until Ctrl-C."""
    return asyncio.run(_up(options))


async def _up(options: argparse.Namespace) -> int:
    if options.no_console or not (options.in_process or options.debug):
        return await _run(options, None)
    from twolane_local.clock.stepped import ProcessTime

    with contextlib.closing(ProcessTime()) as process_time:
        return await _run(options, process_time.clock)


async def _run(options: argparse.Namespace, clock: Clock | None) -> int:
    from twolane_local.emulator import Emulator

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    # Before the start, so that Ctrl-C during it leaves no process behind.
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    emulator = Emulator(
        emulator_options(
            options,
            port=options.port,
            aws_port=options.aws_port,
            http=not options.no_http,
            persist=options.persist,
            debug=options.debug,
            # A process cannot unload its modules.
            reload=not (options.no_reload or options.in_process or options.debug),
            build=options.build,
            real_cold_starts=options.real_cold_starts,
            warm_limit=FEW,
            console=not options.no_console,
            console_port=options.console_port,
            allowed_hosts=(*options.allowed_hosts, *([HOST] if options.sam_local else [])),
        ),
        clock=clock,
    )
    if options.template_why and not options.quiet:
        print(f"template: {options.template} ({options.template_why})", file=sys.stderr)
    printer = EventPrinter(sys.stderr, verbose=options.verbose)
    emulator.journal.subscribe(_own_errors(printer) if options.quiet else printer.write)
    starting = asyncio.create_task(emulator.start())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait([starting])
        return 130
    addresses = starting.result()
    try:
        async with contextlib.AsyncExitStack() as stack:
            if options.sam_local:
                functions = emulator.stack.functions
                await stack.enter_async_context(served(options.sam_local, functions, addresses))
            _print_addresses(emulator, addresses, as_json=options.json)
            if options.open and addresses.console is not None:
                await asyncio.to_thread(webbrowser.open, addresses.console)
            await emulator.run_until(stopped)
    finally:
        stopped.cancel()
        await emulator.stop()
    return 0


def _own_errors(printer: EventPrinter) -> Callable[[Event], None]:
    """Print only the emulator's own errors: a function that does not load, a moto that ended."""

    def write(event: Event) -> None:
        ours = event.kind == "log" and event.function is None and event.queue is None
        if ours and event.data.get("level") == "ERROR":
            printer.write(event)

    return write


def _print_addresses(emulator: Emulator, addresses: Addresses, *, as_json: bool) -> None:
    for note in [*emulator.remarks, *emulator.notes]:
        print(f"! {note}", file=sys.stderr)
    if as_json:
        answer = {**asdict(addresses), "outputs": dict(emulator.stack.outputs)}
        answer["api"] = next(iter(addresses.apis.values()), None)
        print(json.dumps(answer), flush=True)
        return
    print(addresses_table(addresses, emulator.options.persist), flush=True)


def addresses_table(addresses: Addresses, persist: Path | None = None) -> str:
    rows = [(f"API {name}" if len(addresses.apis) > 1 else "API", url)
            for name, url in addresses.apis.items()]  # fmt: skip
    rows += [
        ("AWS endpoint", addresses.aws),
        ("store", f"{addresses.store} ({addresses.store_kind})"),
    ]
    rows += [(f"queue {name}", url) for name, url in addresses.queues.items()]
    if addresses.console is not None:
        rows.append(("console", addresses.console))
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:<{width}}  {value}" for name, value in rows]
    kept = f"{persist} is kept" if persist else "nothing is kept (--persist DIR keeps it)"
    return "\n".join(["twolane is up", *lines, f"Ctrl-C stops all of it; {kept}."])
