"""One-line mutants of the core, each a bug that somebody could write: do the tests bite?

``make mutants`` applies each mutant of ``catalogue.toml`` to a copy of the tree and runs three nets
over it, in this order and until one catches it: the default tests (those near to the mutant first),
the exhaustive simulation, and a small campaign against real processes. A test that fails without
the mutant, too, has not caught it. A mutant that passes all three has survived; it must be listed
in the catalogue with the reason why that is right.

Exit status: 0 if at least 95 % are caught and each survivor has its reason, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CATALOGUE = HERE / "catalogue.toml"
PAGE = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- mutants -->", "<!-- end of mutants -->"

#: What is copied for each mutant; all else of a checkout is of no use to a test.
COPIED = (
    ".gitignore", "handlers", "local", "tests", "docs", "events", "infra", "benchmarks",
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "Makefile", "pyproject.toml",
    "template.yaml",
)  # fmt: skip

#: The share of mutants that must be caught.
TARGET = 0.95


@dataclass(frozen=True, slots=True)
class Mutant:
    """``old`` occurs once in ``file`` and becomes ``new``; ``invariant`` is what it breaks."""

    name: str
    file: str
    old: str
    new: str
    invariant: str
    near: tuple[str, ...] = ()
    #: Why it may survive; empty for one that must be caught.
    survives: str = ""

    def applied(self, text: str) -> str:
        """The mutated text. Raises ``ValueError`` where the line is not there exactly once."""
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.name}: its line is in {self.file} {count} times, not once")
        return text.replace(self.old, self.new)


@dataclass(slots=True)
class Verdict:
    mutant: Mutant
    #: The net that caught it, and what it said; empty for a survivor.
    net: str = ""
    said: str = ""
    seconds: float = 0.0
    tried: list[str] = field(default_factory=list)


def load(path: Path = CATALOGUE) -> list[Mutant]:
    """The catalogue's mutants, in its order."""
    entries = tomllib.loads(path.read_text())["mutant"]
    return [Mutant(**{**entry, "near": tuple(entry.get("near", ()))}) for entry in entries]


@dataclass(frozen=True, slots=True)
class Net:
    name: str
    command: tuple[str, ...]
    limit_s: float


def nets(mutant: Mutant, wanted: Sequence[str]) -> Iterator[Net]:
    """The commands that may catch it, the cheapest first."""
    python = sys.executable
    tests = (
        python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow",
        "--ignore", "tests/mutants",  # where its line is missed
    )  # fmt: skip
    if "tests" in wanted:
        if mutant.near:
            yield Net("default tests", (*tests, *mutant.near), 300)
        yield Net("default tests", (*tests, "tests/twolane", "tests/faults"), 600)
        yield Net("default tests", (*tests, "-n", "2", "--dist", "loadfile"), 900)
    if "exhaustive" in wanted:
        command = (python, "-m", "twolane_local.cli", "simulate", "--exhaustive", "--jobs", "1")
        yield Net("exhaustive run", (*command, "--minutes", "3"), 400)
    if "campaign" in wanted:
        command = (python, "-m", "tests.campaign", "--tasks", "150", "--chords", "6")
        for store in ("redis", "dynamodb"):
            yield Net("campaign", (*command, "--seed", "1", "--store", store), 400)


def try_one(mutant: Mutant, wanted: Sequence[str]) -> Verdict:
    """Apply one mutant to a copy of its own and run the nets until one catches it."""
    began = time.monotonic()
    verdict = Verdict(mutant)
    with tempfile.TemporaryDirectory(prefix="twolane-mutant-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        path = tree / mutant.file
        path.write_text(mutant.applied(path.read_text()))
        for net in nets(mutant, wanted):
            verdict.tried.append(net.name)
            said = run(net, tree)
            if said is not None and ("::" not in said or passes_without(said)):
                verdict.net, verdict.said = net.name, said
                break
    verdict.seconds = time.monotonic() - began
    return verdict


def passes_without(test: str) -> bool:
    """Whether the test passes in a copy without a mutant: else it says nothing about any."""
    function = test.partition("[")[0]  # pytest cuts a parameter's name where it has a space
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", function)
    with tempfile.TemporaryDirectory(prefix="twolane-mutant-") as folder:
        copy_tree(Path(folder))
        return run(Net("default tests", command, 300), Path(folder)) is None


def copy_tree(to: Path) -> None:
    """A copy in which all tests pass that pass here: some ask git what is in it."""
    subprocess.run(["git", "init", "--quiet", to], check=True)
    ignored = shutil.ignore_patterns("__pycache__", ".venv*", "*.egg-info", "build")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=ignored)
        else:
            shutil.copy2(source, to / name)


def run(net: Net, tree: Path) -> str | None:
    """What the net says of a mutant that it catches; ``None`` where it lets it through."""
    environ = {
        **os.environ,
        # Before the editable install of the checkout, in child processes too.
        "PYTHONPATH": os.pathsep.join([str(tree / "handlers"), str(tree / "local"), str(tree)]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    process = subprocess.Popen(
        net.command,
        cwd=tree,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=net.limit_s)
    except subprocess.TimeoutExpired:
        return f"did not end within {net.limit_s:.0f} s"
    finally:
        with_children(process)
    return None if process.returncode == 0 else last_words(output)


def with_children(process: subprocess.Popen[str]) -> None:
    """End what a mutant has left running: the session's processes are the net's own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_words(output: str) -> str:
    """The line that says what was caught."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        if match := re.match(r"(?:FAILED|ERROR) (\S+)", line):
            return match[1]
    for line in lines:
        if "violation" in line.lower():
            return line[:120]
    return lines[-1][:120] if lines else "no output"


def table(verdicts: Sequence[Verdict]) -> str:
    """The rows of the page's table."""
    rows = ["| mutant | where | must hold | caught by |", "|---|---|---|---|"]
    for verdict in verdicts:
        mutant = verdict.mutant
        where = mutant.file.removeprefix("handlers/").removeprefix("local/")
        caught = verdict.net or f"survives: {mutant.survives or 'NO REASON GIVEN'}"
        if verdict.net and verdict.said:
            caught += f": `{verdict.said.rpartition('/')[2]}`"
        rows.append(f"| {mutant.name} | `{where}` | {mutant.invariant} | {caught} |")
    count = sum(1 for verdict in verdicts if verdict.net)
    share = count / len(verdicts)
    return "\n".join([f"{count} of {len(verdicts)} caught ({share:.0%}).", "", *rows])


def write_page(text: str) -> None:
    page = PAGE.read_text()
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE.name} has no place for the table: {BEGIN} … {END}")
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("names", nargs="*", help="only mutants whose name holds one of these")
    parser.add_argument("--nets", default="tests,exhaustive,campaign", help="which, with commas")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once (default: 2)")
    parser.add_argument("--table", action="store_true", help="write the table of docs/faults.md")
    parser.add_argument("--json", action="store_true", help="print the verdicts as JSON")
    options = parser.parse_args(arguments)
    wanted = options.nets.split(",")
    chosen = [
        mutant
        for mutant in load()
        if not options.names or any(name in mutant.name for name in options.names)
    ]
    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for verdict in pool.map(lambda mutant: try_one(mutant, wanted), chosen):
            verdicts.append(verdict)
            caught = f"caught by {verdict.net}: {verdict.said}" if verdict.net else "SURVIVED"
            print(
                f"[{len(verdicts)}/{len(chosen)}] {verdict.mutant.name} ({verdict.seconds:.0f} s): "
                f"{caught}",
                file=sys.stderr,
                flush=True,
            )
    if options.json:
        print(json.dumps([{"name": v.mutant.name, "net": v.net, "said": v.said} for v in verdicts]))
    if options.table:
        write_page(table(verdicts))
    survivors = [verdict.mutant for verdict in verdicts if not verdict.net]
    caught_share = 1 - len(survivors) / max(1, len(verdicts))
    print(f"{len(verdicts) - len(survivors)} of {len(verdicts)} caught ({caught_share:.0%})")
    for mutant in survivors:
        print(f"survived: {mutant.name}: {mutant.survives or 'no reason is given'}")
    unexplained = [mutant for mutant in survivors if not mutant.survives]
    return 0 if caught_share >= TARGET and not unexplained else 1


if __name__ == "__main__":
    sys.exit(main())
