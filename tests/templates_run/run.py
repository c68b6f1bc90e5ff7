"""Starts every template under a folder by a real ``twolane up``: what does not start, and why.

``make templates DIR=…`` is for projects that we did not write. A template's functions run, so look
at what you give it. Each parameter without a default gets a made-up value of its type: what is
measured is the start, not the answers. AWS's own translator judges each template beside that.

Exit status: 0 if at least 95 % of what the translator accepts start, else 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: The share that must start of what AWS's translator accepts.
TARGET = 0.95
#: Two at once: each start is several processes.
AT_ONCE = 2
LIMIT_S = 90.0
_SUFFIXES = frozenset({".yaml", ".yml", ".json", ".template"})
_SKIPPED = frozenset({"node_modules", ".git", ".venv", "__pycache__", "site-packages"})
#: Quick looks at a text: a file with less is no template.
_MARKS = tuple(re.compile(mark) for mark in (r"\bResources\b", r"\bType\b.*AWS::\w+::\w+"))
_LOCAL = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
    "AWS::Serverless::StateMachine": "DefinitionUri",
    "AWS::Serverless::Api": "DefinitionUri",
    "AWS::Serverless::HttpApi": "DefinitionUri",
}
_S3 = "s3://bucket/key"
_BY_TYPE = {
    "Number": "1",
    "AWS::EC2::AvailabilityZone::Name": "us-east-1a",
    "AWS::EC2::Image::Id": "ami-0123456789abcdef0",
    "AWS::EC2::Instance::Id": "i-0123456789abcdef0",
    "AWS::EC2::KeyPair::KeyName": "key",
    "AWS::EC2::SecurityGroup::Id": "sg-0123456789abcdef0",
    "AWS::EC2::Subnet::Id": "subnet-0123456789abcdef0",
    "AWS::EC2::VPC::Id": "vpc-0123456789abcdef0",
    "AWS::EC2::Volume::Id": "vol-0123456789abcdef0",
    "AWS::Route53::HostedZone::Id": "Z0123456789ABC",
    "AWS::SSM::Parameter::Name": "/a/parameter",
}
#: Tried for a pattern, in this order.
_TEXTS = (
    "a-made-up-value-1", "Value1", "a@example.com", "example.com",
    "https://example.com", "arn:aws:sns:us-east-1:123456789012:made-up", "123456789012",
    "10.0.0.0/16", "1", "us-east-1", "/a/b",
)  # fmt: skip


@dataclass(slots=True)
class Outcome:
    """``accepted`` is the translator's word: "yes", or why not."""

    template: str
    accepted: str = "yes"
    starts: bool = False
    seconds: float = 0.0
    reason: str = ""
    notes: list[str] = field(default_factory=list)
    made_up: list[str] = field(default_factory=list)


def find(folder: Path) -> list[Path]:
    """Every template below the folder."""
    found = []
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        paths = (Path(base, name) for name in sorted(files))
        found += [path for path in paths if path.suffix in _SUFFIXES and _is_template(path)]
    return found


def _is_template(path: Path) -> bool:
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return False
    if not all(mark.search(text) for mark in _MARKS):
        return False
    try:
        content = _parsed(text)
    except Exception:  # noqa: BLE001 (what cannot be read is shown with its reason)
        return True
    return isinstance(content, dict) and isinstance(content.get("Resources"), dict)


def _parsed(text: str) -> Any:
    from samtranslator.yaml_helper import yaml_parse

    # A date is text in a template.
    return json.loads(json.dumps(yaml_parse(text), default=str))


def judged(content: Any, values: dict[str, str]) -> str:
    """What AWS's translator says: "yes", or why it refuses the template."""
    from samtranslator.translator.transform import transform

    class Policies:
        def load(self) -> dict[str, str]:
            return {}

    try:
        _with_uris(content)
        transform(content, values, Policies())
    except Exception as error:  # noqa: BLE001 (it stumbles over some in its own ways)
        causes = "; ".join(cause.message for cause in getattr(error, "causes", ()))
        return " ".join((causes or repr(error)).split())[:200]
    return "yes"


def _with_uris(content: dict[str, Any]) -> None:
    """Local paths as addresses, as ``sam package`` writes them."""
    for resource in content["Resources"].values():
        key = _LOCAL.get(resource.get("Type", ""))
        properties = resource.get("Properties") or {}
        if key and isinstance(properties.get(key), str):
            properties[key] = _S3
        elif key == "CodeUri" and not {"CodeUri", "InlineCode", "ImageUri"} & properties.keys():
            image = properties.get("PackageType") == "Image"
            properties["ImageUri" if image else "CodeUri"] = "1.dkr/i:t" if image else _S3
        resource["Properties"] = properties
    shared = (content.get("Globals") or {}).get("Function") or {}
    if "CodeUri" in shared:
        shared["CodeUri"] = _S3


def made_up(declared: dict[str, Any]) -> dict[str, str]:
    """A value for each parameter that has no default."""
    return {
        name: _value(name, parameter)
        for name, parameter in declared.items()
        if isinstance(parameter, dict) and parameter.get("Default") is None
    }


def _value(name: str, parameter: dict[str, Any]) -> str:
    allowed = parameter.get("AllowedValues")
    if isinstance(allowed, list) and allowed:
        first = allowed[0]
        return str(first).lower() if isinstance(first, bool) else str(first)
    kind = str(parameter.get("Type", "String"))
    inner = re.fullmatch(r"List<(.+)>", kind)
    if inner:
        return ",".join([_BY_TYPE.get(inner[1], "made-up")] * 2)
    if kind.startswith("AWS::SSM::Parameter::Value"):
        return "/a/parameter"
    if kind == "Number" and "MinValue" in parameter:
        return str(parameter["MinValue"])
    return _BY_TYPE.get(kind) or _text(name, parameter)


def _text(name: str, parameter: dict[str, Any]) -> str:
    texts = ["arn:aws:sns:us-east-1:123456789012:made-up"] if name.lower().endswith("arn") else []
    pattern = str(parameter.get("AllowedPattern", ".*"))
    length = int(parameter.get("MinLength", 0))
    # One of its own for each: two buckets of one name are refused.
    for text in [*texts, f"made-up-{name.lower()}", *_TEXTS]:
        with suppress(re.error):
            if len(text) >= length and re.fullmatch(pattern, text):
                return text
    return "x" * max(length, 8)


def run_one(path: Path, root: Path, scratch: Path, limit_s: float) -> Outcome:
    """Judge it, and start it."""
    outcome = Outcome(str(path.relative_to(root)))
    values: dict[str, str] = {}
    try:
        content = _parsed(path.read_text("utf-8"))
        declared = content.get("Parameters") or {}
        values = made_up(declared)
        defaults = {
            name: str(parameter["Default"])
            for name, parameter in declared.items()
            if parameter.get("Default") is not None
        }
        outcome.accepted = judged(content, {**defaults, **values, "AWS::Region": "us-east-1"})
    except Exception as error:  # noqa: BLE001 (no YAML, or of no form at all)
        outcome.accepted = " ".join(repr(error).split())[:200]
    outcome.made_up = sorted(values)
    _start(path, values, outcome, scratch, limit_s)
    return outcome


def _start(
    path: Path, values: dict[str, str], outcome: Outcome, scratch: Path, limit_s: float
) -> None:
    command = [
        sys.executable, "-m", "twolane_local.cli", "up", "--template", str(path), "--port", "0",
        "--aws-port", "0", "--no-console", "--no-reload", "--json", "--quiet",
    ]  # fmt: skip
    for name, value in values.items():
        command += ["--parameter", f"{name}={value}"]
    # Caches and temporary files of what runs go with the run.
    environ = {**os.environ, "XDG_CACHE_HOME": str(scratch), "TMPDIR": str(scratch)}
    with tempfile.TemporaryFile("w+", dir=scratch) as errors:
        begun = time.monotonic()
        child = subprocess.Popen(
            command, cwd=path.parent, env=environ, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
        with ThreadPoolExecutor(1) as reader:
            try:
                line = reader.submit(child.stdout.readline).result(limit_s)
                outcome.starts = line.startswith("{")
            except TimeoutError:
                outcome.reason = f"HANGS: not up after {limit_s:.0f} s"
            outcome.seconds = round(time.monotonic() - begun, 1)
            _end(child, outcome)
        errors.seek(0)
        lines = [line.rstrip() for line in errors if line.strip()]
    outcome.notes = [line for line in lines if line.startswith("! ")]
    trace = next((line for line in lines if line.startswith("Traceback")), None)
    if trace:
        outcome.reason = f"TRACEBACK: {lines[-1]}"
    if not outcome.starts and not outcome.reason:
        outcome.reason = (outcome.notes or lines or ["it says nothing"])[-1]


def _end(child: subprocess.Popen[str], outcome: Outcome) -> None:
    child.send_signal(signal.SIGINT)
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        outcome.reason = outcome.reason or "HANGS: does not end within 20 s of SIGINT"
    # Ours alone: the child leads a session of its own.
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()


def table(outcomes: list[Outcome]) -> str:
    """One line for each, and the counts."""
    lines = []
    for each in outcomes:
        unplayed = Counter(_kind(note) for note in each.notes) if each.starts else {}
        named = ", ".join(f"{count} {kind}" for kind, count in unplayed.items())
        lines.append(
            f"{'starts' if each.starts else 'DOES NOT':9}{each.seconds:5.1f} s  {each.template}"
            + (f"  [{named}]" if named else "")
            + (f"  (made up: {', '.join(each.made_up)})" if each.made_up else "")
        )
        if each.reason:
            lines.append(f"{'':18}{each.reason}")
        if each.accepted != "yes":
            lines.append(f"{'':18}AWS's translator refuses it: {each.accepted}")
    accepted = [each for each in outcomes if each.accepted == "yes"]
    started = sum(each.starts for each in accepted)
    share = started / len(accepted) if accepted else 1.0
    given = sum(bool(each.made_up) for each in outcomes)
    lines += [
        "",
        (
            f"{len(outcomes)} templates; AWS's translator accepts {len(accepted)}, and "
            f"{started} of those start ({share:.1%})."
        ),
        f"{given} have parameters without a default, which got made-up values of their types.",
    ]
    return "\n".join(lines)


def _kind(note: str) -> str:
    if "is not emulated" in note or "is not played" in note:
        return "not played"
    return "cannot run" if "invocations fail" in note else "other notes"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sample", type=int, metavar="N", help="only N of them, at random")
    parser.add_argument("--seed", type=int, help="of the sample; printed where none is given")
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="S", help="for each start")
    parser.add_argument("--json", action="store_true", help="print one JSON object a template")
    options = parser.parse_args()
    root = options.folder.resolve()
    paths = find(root)
    if options.sample is not None and options.sample < len(paths):
        seed = random.randrange(10**6) if options.seed is None else options.seed
        print(f"{options.sample} of {len(paths)} templates, --seed {seed}", file=sys.stderr)
        paths = sorted(random.Random(seed).sample(paths, options.sample))
    logging.getLogger("samtranslator.metrics").setLevel(logging.ERROR)
    # The translator asks boto3 for a region, although it is given one.
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    outcomes: list[Outcome] = []
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        for outcome in pool.map(
            lambda path: run_one(path, root, Path(scratch), options.limit), paths
        ):
            outcomes.append(outcome)
            if options.json:
                print(json.dumps(asdict(outcome)), flush=True)
            else:
                mark = "starts" if outcome.starts else "DOES NOT"
                print(f"{len(outcomes)}/{len(paths)} {mark} {outcome.template}", file=sys.stderr)
    if not options.json:
        print(table(outcomes))
    accepted = [each for each in outcomes if each.accepted == "yes"]
    return int(sum(each.starts for each in accepted) < TARGET * len(accepted))


if __name__ == "__main__":
    sys.exit(main())
