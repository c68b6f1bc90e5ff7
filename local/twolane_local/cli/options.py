"""What the commands share."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from twolane_local.cli.flags import UNNAMED

if TYPE_CHECKING:
    import argparse
    from collections.abc import Coroutine, Iterable

    from twolane_local.options import Options

T = TypeVar("T")


def choose_template(flags: Iterable[str], options: argparse.Namespace) -> None:
    """Where the command reads a template and none is named: the project's own.

    ``template_why`` says why that one, where it is not plain.
    """
    if "template" not in flags or options.template is not UNNAMED:
        return
    if getattr(options, "files", None) or getattr(options, "stack", None):
        return  # it looks at those instead
    if getattr(options, "what", "list") not in {"list", "run"}:
        return  # a template, of which schedules are written
    from twolane_local.template import places

    found = places.find(Path(), options.config_env)
    options.template, options.template_why = found.path, found.why


def emulator_options(options: argparse.Namespace, **more: Any) -> Options:
    """The emulator's options from the command line's, and from ``samconfig.toml``."""
    from twolane_local.cli.ask_parameters import with_answers
    from twolane_local.options import Options
    from twolane_local.template import samconfig

    config = samconfig.read(options.template, options.config_env)
    return Options(
        template=options.template,
        redis_url=options.redis_url,
        in_process=options.in_process or more.get("debug", False),
        parameters=with_answers(options.template, template_parameters(options)),
        imports=dict(options.imports),
        stack_name=options.stack_name or config.stack_name or "local",
        allow_real_aws=options.allow_real_aws,
        **more,
    )


def template_parameters(options: argparse.Namespace) -> dict[str, str]:
    """What the template is given: by the command line, which wins, by the files that it names, by
    ``samconfig.toml``, and by ``.env`` where there is no default.
    """
    from twolane_local import template
    from twolane_local.template import parameter_files, samconfig

    config = samconfig.read(options.template, options.config_env)
    declared = template.parameters_of(options.template)
    configured = {**parameter_files.beside(options.template, declared), **config.parameters}
    for path in options.parameter_file:
        configured |= parameter_files.read(path)
    known = {name: value for name, value in configured.items() if name in declared}
    return {**known, **dict(options.parameter)}


def run_on_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run it on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
