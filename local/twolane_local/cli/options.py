"""The template, its parameters and the emulator's options from a command line; confirmations."""

from __future__ import annotations

import asyncio
import sys
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from twolane_local import template
from twolane_local.cli.flags import UNNAMED
from twolane_local.emulator import STORE_PARAMETER
from twolane_local.errors import LocalError
from twolane_local.template.parameters import missing

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Coroutine, Iterable

    from twolane_local.model.options import Options


T = TypeVar("T")


def choose_template(flags: Iterable[str], options: argparse.Namespace) -> None:
    """Find the project's template, for a command that reads one, if none was given.

    ``template_why`` says why it was chosen, unless that is obvious.
    """
    if "template" not in flags or options.template is not UNNAMED:
        return
    if getattr(options, "files", None) or getattr(options, "stack", None):
        return  # the command reads those instead
    if getattr(options, "what", "list") not in {"list", "run"}:
        return  # `twolane schedules TEMPLATE`
    from twolane_local.template import places

    found = places.find(Path(), options.config_env)
    options.template, options.template_why = found.path, found.why
    options.template_named = False


def emulator_options(options: argparse.Namespace, **more: Any) -> Options:
    """Return the emulator's options, from the command line and ``samconfig.toml``."""
    from twolane_local.model.options import Options
    from twolane_local.template import parameters

    config = parameters.read_samconfig(options.template, options.config_env)
    return Options(
        template=options.template,
        redis_url=options.redis_url,
        in_process=options.in_process or more.get("debug", False),
        parameters=ask_missing_parameters(options.template, template_parameters(options)),
        imports=dict(options.imports),
        stack_name=options.stack_name or config.stack_name or "local",
        allow_real_aws=options.allow_real_aws,
        **more,
    )


def template_parameters(options: argparse.Namespace) -> dict[str, str]:
    """Return the template's parameters: from the command line, from the files that it names, from
    ``samconfig.toml``, and from ``.env`` for those without a default, in this order of precedence.
    """
    from twolane_local.template import parameters

    declared = template.parameters_of(options.template)
    given = parameters.parameters(options.template, declared, options.config_env)
    for path in options.parameter_file:
        read = parameters.read_values(path)
        given |= {name: value for name, value in read.items() if name in declared}
    return {**given, **dict(options.parameter)}


def run_on_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run it on uvloop, if that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def ask_missing_parameters(path: Path, given: dict[str, str]) -> dict[str, str]:
    """Ask for missing parameters on a terminal; the emulator reports those that stay missing."""
    declared = template.parameters_of(path)
    names = missing(declared, {*given, STORE_PARAMETER})
    if not names or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return given
    print(f"{path} has parameters without a default:", file=sys.stderr)
    answers: dict[str, str] = {}
    try:
        for name in names:
            description = declared[name].get("Description")
            secret = str(declared[name].get("NoEcho", False)).lower() == "true"
            prompt = f"  {name} ({description}): " if description else f"  {name}: "
            answers[name] = getpass(prompt) if secret else _read_line(prompt)
    except EOFError:
        print(file=sys.stderr)
    return {**given, **answers}


def _read_line(prompt: str) -> str:
    # Not on stdout: another program may read that (`--json`).
    print(prompt, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


class UnconfirmedError(LocalError):
    """Nothing was changed, since nobody confirmed it; add --yes."""


def confirm(
    question: str,
    *,
    yes: bool,
    needed: bool,
    terminal: TextIO | None = None,
    answer: Callable[[], str] = input,
) -> None:
    """Return, or raise ``UnconfirmedError``.

    ``yes`` is ``--yes``. On a terminal the question is asked. Elsewhere the change is refused if a
    confirmation is ``needed``: a stack has real messages, an emulator does not.
    """
    if yes:
        return
    stdin = terminal or sys.stdin
    if not stdin.isatty():
        if needed:
            raise UnconfirmedError(f"{question} Nothing was changed: add --yes to do it")
        return
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    try:
        reply = answer().strip().lower()
    except EOFError:
        reply = ""
    if reply not in {"y", "yes"}:
        raise UnconfirmedError("nothing was changed")
