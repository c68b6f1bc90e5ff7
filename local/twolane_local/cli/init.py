"""``twolane init``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.cli import exits
from twolane_local.cli.flags import json_flag
from twolane_local.cli.text import one_line, print_json, progress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from twolane_local.checks.starter import Plan
    from twolane_local.checks.survey import Survey

FLAGS: tuple[str, ...] = ()
EXAMPLES = (
    "twolane init",
    "twolane init shop --dry-run",
    "twolane init --api shop.main:app --celery shop.tasks:celery",
)
#: Of those that are read, the ones that are shown; --json has all.
_VARIABLES_SHOWN = 12


def configure(parser: argparse.ArgumentParser) -> None:
    json_flag(parser)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(), metavar="FOLDER",
        help="the application's folder; an empty one gets a small new project (this one)",
    )  # fmt: skip
    parser.add_argument(
        "--api", default="", metavar="MODULE:NAME", help="the web application, of several"
    )
    parser.add_argument(
        "--celery", default="", metavar="MODULE:NAME", help="the Celery application, of several"
    )
    parser.add_argument("--dry-run", action="store_true", help="write nothing; print the files")
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")


def run(options: argparse.Namespace) -> int:
    """Look at the application, write what is missing, and say what was found."""
    from twolane_local.checks import starter
    from twolane_local.checks.survey import Survey, SurveyError, probe, survey

    folder: Path = options.folder
    if folder.exists() and not folder.is_dir():
        raise SurveyError(f"{folder} is no folder")
    found = Survey()
    if _is_empty(folder):
        made = starter.Plan(starter.NEW)
    else:
        with progress("reading the source") as note:
            found = survey(folder.resolve())
            note("importing the application")
            probed = probe(folder.resolve(), found, _variables(folder))
        made = starter.plan(folder.resolve(), found, probed, api=options.api, celery=options.celery)
    states = {name: _write(folder / name, text, options) for name, text in made.files.items()}
    if options.json:
        print_json(_as_dict(found, made, states))
    else:
        _print(folder, found, made, states)
    return exits.DONE


def _is_empty(folder: Path) -> bool:
    """Hidden files, such as ``.git`` and ``.venv``, are nobody's application."""
    return not folder.is_dir() or all(each.name.startswith(".") for each in folder.iterdir())


def _variables(folder: Path) -> dict[str, str]:
    from twolane_local.template.parameters import read_parameter_file

    path = folder / ".env"
    return read_parameter_file(path) if path.is_file() else {}


def _write(path: Path, text: str, options: argparse.Namespace) -> str:
    if path.exists():
        if path.is_file() and path.read_text("utf-8", "replace") == text:
            return "unchanged"
        if not options.force:
            return "kept"
    if options.dry_run:
        return "would write"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return "written"


def _as_dict(found: Survey, made: Plan, states: Mapping[str, str]) -> dict[str, Any]:
    return {
        "found": found.as_dict(),
        "api": None if made.api is None else f"{made.api.module}:{made.api.name}",
        "celery": None if made.celery is None else f"{made.celery.module}:{made.celery.name}",
        "facts": {
            "api": {} if made.api is None else made.api.facts,
            "celery": {} if made.celery is None else made.celery.facts,
        },
        "files": [
            {"path": name, "state": states[name], "text": text} for name, text in made.files.items()
        ],
        "notes": list(made.notes),
    }


def _print(folder: Path, found: Survey, made: Plan, states: Mapping[str, str]) -> None:
    rows = list(_rows(found, made))
    if rows:
        width = max(len(name) for name, _ in rows)
        print("found")
        for name, text in rows:
            print(f"  {name:<{width}}  {one_line(text)}")
    for state in ("written", "unchanged", "would write", "kept"):
        names = [name for name in made.files if states[name] == state]
        if names:
            print(f"{state}: {', '.join(names)}")
    for name, text in made.files.items():
        if states[name] in ("kept", "would write"):
            why = "is there already; with --force it becomes" if states[name] == "kept" else "as"
            print(f"\n--- {name} {why}")
            print(text.rstrip())
    if made.notes:
        print("note" if len(made.notes) == 1 else "notes")
        for note in made.notes:
            print(f"  - {one_line(note)}")
    if "written" in states.values():
        where = "" if folder == Path() else f"in {folder}, "
        print(f"next: {where}`twolane lint`, `pytest`, `twolane up`")


def _rows(found: Survey, made: Plan) -> Iterator[tuple[str, str]]:
    if made.api is not None:
        each = made.api
        yield each.kind, f"{each.module}:{each.name} at {each.where}, {_count(each.facts)}"
    if made.celery is not None:
        each, facts = made.celery, made.celery.facts
        yield "Celery", f"{each.module}:{each.name} at {each.where}, {len(facts['tasks'])} tasks"
        yield "broker", facts["broker"] or "none"
        yield "result backend", facts["backend"] or "none"
        yield "queues", ", ".join(facts["queues"])
        entries = [f"{name} ({task})" for name, task in facts["beat"].items()]
        if entries:
            yield "beat_schedule", ", ".join(entries)
    for setting in found.settings:
        yield setting.name, f"{setting.value:.60} at {setting.where}"
    for variable in found.variables[:_VARIABLES_SHOWN]:
        default = "must be set" if variable.default is None else f"default {variable.default:.40}"
        yield variable.name, f"{default}, read at {variable.where}"
    if len(found.variables) > _VARIABLES_SHOWN:
        yield "", f"… and {len(found.variables) - _VARIABLES_SHOWN} more variables (--json)"
    if found.python:
        yield "Python", f"{found.python} ({found.python_where})"
    if found.packages:
        yield "packages", ", ".join(found.packages)


def _count(facts: Mapping[str, Any]) -> str:
    routes = facts.get("routes", 0)
    return f"{routes} routes" if routes else facts.get("class", "")
