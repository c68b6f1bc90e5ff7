"""What the commands share."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import argparse
    from collections.abc import Coroutine
    from pathlib import Path

    from twolane_local.options import Options

T = TypeVar("T")


def emulator_options(options: argparse.Namespace, **more: Any) -> Options:
    """The emulator's options from the command line's, and from ``samconfig.toml``."""
    from twolane_local.options import Options
    from twolane_local.template import samconfig

    config = samconfig.read(options.template, options.config_env)
    return Options(
        template=options.template,
        redis_url=options.redis_url,
        in_process=options.in_process or more.get("debug", False),
        parameters=_asked_for(options.template, template_parameters(options)),
        imports=dict(options.imports),
        stack_name=options.stack_name or config.stack_name or "local",
        allow_real_aws=options.allow_real_aws,
        **more,
    )


def template_parameters(options: argparse.Namespace) -> dict[str, str]:
    """What the command line and ``samconfig.toml`` give the template; the first wins."""
    from twolane_local import template
    from twolane_local.template import samconfig

    config = samconfig.read(options.template, options.config_env)
    declared = template.parameters_of(options.template)
    configured = {name: value for name, value in config.parameters.items() if name in declared}
    return {**configured, **dict(options.parameter)}


def _asked_for(path: Path, given: dict[str, str]) -> dict[str, str]:
    """With what a person at the terminal gives for parameters that have no value."""
    from getpass import getpass

    from twolane_local import template
    from twolane_local.emulator import STORE_PARAMETER
    from twolane_local.template.parameters import missing

    declared = template.parameters_of(path)
    names = missing(declared, {*given, STORE_PARAMETER})
    if not names or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return given  # the emulator names all that have none
    print(f"{path} has parameters without a default:", file=sys.stderr)
    for name in names:
        parameter = declared[name]
        ask = getpass if str(parameter.get("NoEcho", False)).lower() == "true" else _line
        description = parameter.get("Description")
        given[name] = ask(f"  {name}{f' ({description})' if description else ''}: ")
    return given


def _line(prompt: str) -> str:
    # The prompt is no output of the command's: `--json` goes to another program.
    print(prompt, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def run_on_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run it on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
