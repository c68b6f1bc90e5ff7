"""``twolane schedules``: list beat's entries, run one now, or export one schedule for each.

``list`` and ``run`` invoke the beat function through Lambda's Invoke API: that of ``twolane up``
or, with ``--stack`` or ``--aws``, the deployed one. Heavy modules are imported where they are used,
because building the whole parser imports this module.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from twolane_local.cli.flags import confirm, template_parameters, yes_flag
from twolane_local.errors import HandlerImportError, LocalError, TemplateError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping
    from datetime import tzinfo

    from twolane.beat import BeatHandler
    from twolane_local.model import FunctionSpec
    from twolane_local.remote.emulator import EmulatorSource

FLAGS = ("template",)
EXAMPLES = (
    "twolane schedules list",
    "twolane schedules list --stack shop --zone Europe/Paris",
    "twolane schedules run daily-digest",
    "twolane schedules template.yaml --check",
)
OUTPUT = Path("infra/schedules.yaml")
_HEADER = """\
# One EventBridge Scheduler schedule for each entry of beat_schedule, to replace the tick.
# Made by `twolane schedules {template}`; run that again after a change of beat_schedule.
#
# To use it: nest it in the template (AWS::CloudFormation::Stack) with the beat function's ARN as
# BeatFunctionArn, and disable the tick among the function's Events. When clocks change, Scheduler
# skips a time that does not exist; the tick runs it an hour later, like Celery.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        metavar="list | run | TEMPLATE",
        help="list the entries, run one now, or export one schedule for each entry of TEMPLATE",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="the entry to run")
    parser.add_argument("--zone", metavar="ZONE", help="also show times in this zone (the app's)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--function", metavar="ID", help="the beat function's logical id or name")
    parser.add_argument(
        "--endpoint-url",
        metavar="URL",
        help="the AWS endpoint of `twolane up` (the running one's, or http://127.0.0.1:4566)",
    )
    parser.add_argument("--aws", action="store_true", help="invoke the deployed function instead")
    parser.add_argument("--stack", metavar="NAME", help="invoke the function of a deployed stack")
    parser.add_argument("--region", metavar="REGION", help="the stack's region ($AWS_REGION)")
    parser.add_argument("--profile", metavar="NAME", help="the AWS profile ($AWS_PROFILE)")
    yes_flag(parser)
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE", help=str(OUTPUT))
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if FILE is not up to date"
    )


def run(options: argparse.Namespace) -> int:
    """Return 1 if ``--check`` finds a difference, else 0. Raises ``LocalError``."""
    if options.what == "list":
        listed = entries(_beat_call(options))
        if options.json:
            print(json.dumps(listed))
        else:
            print("\n".join(entries_table(listed, zone=options.zone, local=None)))
        return 0
    if options.what == "run":
        return _run_now(options)
    options.template = Path(options.what)
    text = export(options.template, template_parameters(options), function=options.function)
    if options.check:
        current = options.output.read_text("utf-8") if options.output.exists() else None
        if current == text:
            return 0
        print(
            f"! {options.output} does not match beat_schedule; "
            f"run `twolane schedules {options.what}`",
            file=sys.stderr,
        )
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text, "utf-8")
    print(f"{options.output}: written", file=sys.stderr)
    return 0


def export(path: Path, parameters: Mapping[str, str], *, function: str | None = None) -> str:
    """Return a schedule for each entry, as YAML. Raises ``ConfigurationError``."""
    import yaml

    from twolane.beat.export import as_template

    spec = beat_function(path, parameters, wanted=function)
    made = as_template(load_handler(spec).app)
    return _HEADER.format(template=path.name) + yaml.safe_dump(made, sort_keys=False, width=100)


def entries(call: Any, *, count: int = 3) -> list[dict[str, Any]]:
    """Return every entry in the shape of ``twolane.beat.inspection``; ``call`` invokes beat."""
    listed: list[dict[str, Any]] = call({"twolane": {"list": count}})["entries"]
    return listed


def run_now(call: Any, name: str) -> dict[str, Any]:
    """Send the task of one entry now; return ``{"entry", "slot", "taskId"}``."""
    sent: dict[str, Any] = call({"twolane": {"run": name}})
    return sent


def beat_function(
    path: Path, parameters: Mapping[str, str], *, wanted: str | None = None
) -> FunctionSpec:
    """Return the template's function that a schedule invokes, or the ``wanted`` one."""
    from twolane_local import template
    from twolane_local.template import stack

    expanded = template.load(path, parameters, stack_name="local")
    facts = stack.BuildContext(
        aws_url="http://127.0.0.1:4566",
        base_url=lambda _: "http://127.0.0.1:3000",
        elsewhere=lambda name, attribute: f"{name}.{attribute}" if attribute else name,
    )
    built, _ = stack.build(expanded, facts)
    functions = [spec for spec in built.functions if not spec.unrunnable]
    targets = {schedule.target_arn for schedule in built.schedules}
    if wanted is not None:
        found = [spec for spec in functions if wanted in (spec.name, spec.logical_id)]
    else:
        found = [spec for spec in functions if spec.arn in targets]
    if len(found) != 1:
        names = ", ".join(spec.logical_id for spec in found or functions) or "none"
        raise TemplateError(
            f"{path}: the beat function is not clear; name it with --function (of: {names})"
        )
    return found[0]


def load_handler(spec: FunctionSpec) -> BeatHandler:
    """Import the function's handler, with its environment, and check that it is beat's."""
    from twolane.beat import BeatHandler

    for name, value in spec.environment.items():
        os.environ.setdefault(name, value)
    sys.path.insert(0, str(spec.code_dir))
    module, _, attribute = spec.handler.rpartition(".")
    try:
        handler = getattr(importlib.import_module(module.replace("/", ".")), attribute)
    except Exception as error:
        raise HandlerImportError(
            f"{spec.logical_id}: {spec.handler} in {spec.code_dir} cannot be imported: {error!r}"
        ) from error
    if not isinstance(handler, BeatHandler):
        raise HandlerImportError(
            f"{spec.logical_id}: {spec.handler} is a {type(handler).__name__}, not a BeatHandler; "
            "name the beat function with --function"
        )
    return handler


class LambdaCall:
    """Invokes a function through boto3's ``client``; errors end with the ``hint``."""

    def __init__(self, function: str, client: Any, hint: str) -> None:
        self._function, self._client, self._hint = function, client, hint

    def __call__(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return the function's response. Raises ``LocalError`` with the function's error."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._client.invoke(
                FunctionName=self._function, Payload=json.dumps(event).encode()
            )
        except (BotoCoreError, ClientError) as error:
            raise LocalError(
                f"{self._function} cannot be invoked ({self._hint}): {error}"
            ) from error
        payload: dict[str, Any] = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise LocalError(f"{self._function} failed: {payload.get('errorMessage', payload)}")
        return payload


def _beat_call(options: argparse.Namespace) -> LambdaCall:
    name = options.function
    if options.stack is None and not options.aws:
        running = None if options.endpoint_url else _running(options)
        if name is None and running is not None:
            # What runs knows its parameters; the template alone may need values for them.
            name = _running_beat(running)
        if name is None:
            name = beat_function(options.template, template_parameters(options)).name
        return LambdaCall(name, _local_client(options, running), "is `twolane up` running?")
    if name is None and options.stack is None:
        name = beat_function(options.template, template_parameters(options)).name
    from twolane_local.remote import resources
    from twolane_local.remote.account import Account

    account = Account(region=options.region, profile=options.profile)
    if options.stack is not None:
        found = resources.read_resources(account, options.stack)
        name = name or resources.beat_function(account, found)
    return LambdaCall(name, account.client("lambda"), "check the credentials")


def _running(options: argparse.Namespace) -> EmulatorSource | None:
    """Return the running emulator of this project, if there is one."""
    from twolane_local.remote import open_emulator
    from twolane_local.remote.emulator import NotRunningError

    try:
        return open_emulator(options.template if options.template_named else None)
    except NotRunningError:
        return None


def _running_beat(running: EmulatorSource) -> str | None:
    """Return the one function that a schedule invokes; of several, the one that has entries."""
    functions = {each["name"] for each in running.functions()}
    invoked = [each for each in running.schedules() if each["target"] in functions]
    for found in ({each["target"] for each in invoked},
                  {each["target"] for each in invoked if each["entries"]}):  # fmt: skip
        if len(found) == 1:
            return str(found.pop())
    return None


def _local_client(options: argparse.Namespace, running: EmulatorSource | None) -> Any:
    import boto3

    address = options.endpoint_url
    if address is None:
        address = running.status()["addresses"]["aws"] if running else "http://127.0.0.1:4566"
    return boto3.client(
        "lambda",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - it signs for this machine
    )


def _run_now(options: argparse.Namespace) -> int:
    if not options.name:
        raise LocalError("name the entry to run; `twolane schedules list` shows them")
    real = options.stack or ("the deployed function" if options.aws else None)
    if real is not None:
        confirm(f"Send the task of {options.name} now, in {real}?", yes=options.yes, needed=True)
    sent = run_now(_beat_call(options), options.name)
    print(json.dumps(sent) if options.json else f"{sent['entry']} sent as task {sent['taskId']}")
    return 0


def entries_table(
    listed: Iterable[Mapping[str, Any]], *, zone: str | None, local: tzinfo | None
) -> list[str]:
    """For people: entries with next times in the zones ``local`` and ``zone``, and last runs."""
    lines: list[str] = []
    for entry in listed:
        there = ZoneInfo(zone or entry["timezone"])
        lines.append(f"{entry['name']}  ({entry['schedule']}, {entry['task']})")
        lines += [f"  next  {_times(text, local, there)}" for text in entry["next"]]
        if entry["last"]:
            lines.append(f"  last  {_times(entry['last'], local, there)}  task {entry['taskId']}")
        else:
            lines.append("  last  never")
    return lines or ["beat_schedule has no enabled entry"]


def _times(text: str, local: tzinfo | None, there: tzinfo) -> str:
    moment = datetime.fromisoformat(text)
    here = f"{moment.astimezone(local):%a %Y-%m-%d %H:%M:%S %Z}"
    return f"{here} = {moment.astimezone(there):%a %H:%M:%S %Z}"
