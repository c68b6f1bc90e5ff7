"""Ask AWS what could not be verified without an account: ``make aws-proof``.

Deploys ``template.yaml`` under a random name, runs every check of ``checks.py``, asks the emulator
the same, prints both side by side, writes them as JSON, and deletes everything, also when it is
interrupted. It takes some ten minutes and a few cents: a handful of functions and queues, a table,
some thousand requests. It needs credentials that may deploy a stack with roles, the functions' own
Python on the PATH, and `sam`.

``--emulator`` asks only the emulator; ``--list`` writes the list of what is not verified into
``docs/limits.md``; ``--delete NAME`` removes what a run that was killed has left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64decode
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "infra")]

from checks import CHECKS, Answer, Check  # noqa: E402 - a script's own folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PAGE = ROOT / "docs" / "limits.md"
BEGIN, END = "<!-- unverified -->", "<!-- end of unverified -->"
#: All checks together; what is left then is not asked.
LIMIT_S = 15 * 60.0


class ProofError(Exception):
    """The proof cannot go on; its text says why and what to do."""


class Stack:
    """Implements ``checks.Asked`` by boto3 and HTTP."""

    def __init__(
        self, name: str, outputs: Mapping[str, str], token: str, deadline: float, **session: Any
    ) -> None:
        self.name, self.outputs = name, outputs
        self._token, self._deadline, self._session = token, deadline, session
        self._clients: dict[str, Any] = {}

    @property
    def environ(self) -> dict[str, str]:
        names = {
            "AWS_REGION": "region_name", "AWS_DEFAULT_REGION": "region_name",
            "AWS_ACCESS_KEY_ID": "aws_access_key_id",
            "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key",
            "AWS_SESSION_TOKEN": "aws_session_token", "AWS_ENDPOINT_URL": "endpoint_url",
        }  # fmt: skip
        said = {name: self._session.get(key) for name, key in names.items()}
        return {name: str(value) for name, value in said.items() if value}

    def client(self, service: str) -> Any:
        import boto3
        from botocore.config import Config

        if service not in self._clients:
            config = Config(read_timeout=70, retries={"max_attempts": 3}, max_pool_connections=20)
            self._clients[service] = boto3.client(service, config=config, **self._session)
        return self._clients[service]

    def request(self, method: str, url: str) -> tuple[int, float, str]:
        asked = urllib.request.Request(  # noqa: S310 - the stack's own address
            url, method=method, headers={"x-proof-token": self._token, "content-length": "0"}
        )
        began = time.monotonic()
        try:
            with urllib.request.urlopen(asked, timeout=40) as answer:  # noqa: S310
                body, status = answer.read(), answer.status
        except urllib.error.HTTPError as refused:
            body, status = refused.read(), refused.code
        return status, time.monotonic() - began, body.decode("utf-8", "replace")

    def invoke(self, function: str, payload: Any, qualifier: str = "") -> tuple[Any, str]:
        answer = self.client("lambda").invoke(
            FunctionName=function,
            Payload=json.dumps(payload).encode(),
            LogType="Tail",
            **({"Qualifier": qualifier} if qualifier else {}),
        )
        said = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise ProofError(f"{function} failed: {said}")
        return said, b64decode(answer.get("LogResult", "")).decode("utf-8", "replace")

    def notes(self, kind: str) -> list[dict[str, Any]]:
        pages = (
            self.client("dynamodb")
            .get_paginator("scan")
            .paginate(TableName=self.outputs["NotesTable"], ConsistentRead=True)
        )
        items = [item for page in pages for item in page["Items"] if "note" in item]
        found = [json.loads(item["note"]["S"]) for item in items]
        return sorted((one for one in found if one["kind"] == kind), key=lambda one: one["at"])

    def wait(self, condition: Callable[[], Any], limit_s: float) -> Any:
        ends = min(time.monotonic() + limit_s, self._deadline)
        while not (said := condition()) and time.monotonic() < ends:
            time.sleep(0.25)
        return said


def ask(stack: Stack, checks: Sequence[Check], deadline: float, where: str) -> dict[str, Answer]:
    """Every check's answer. One that fails says so, and the others are asked all the same."""
    answers: dict[str, Answer] = {}
    for number, check in enumerate(checks, 1):
        say(f"{where} [{number}/{len(checks)}] {check.name}")
        if time.monotonic() > deadline:
            answers[check.name] = Answer("not asked: the time is up")
            continue
        try:
            answers[check.name] = check.ask(stack)
        except Exception as failed:  # noqa: BLE001 - it is this check's answer
            answers[check.name] = Answer(f"failed: {type(failed).__name__}: {failed}"[:200], False)
    return answers


# The two stacks.


def stage(folder: Path) -> None:
    """The template with its code: twice, since one copy is compiled and the other is not."""
    shutil.copy2(HERE / "template.yaml", folder)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("code", "source"):
        shutil.copytree(HERE / "functions", folder / name, ignore=ignored)
        shutil.copytree(ROOT / "handlers" / "twolane", folder / name / "twolane", ignore=ignored)
        shutil.copy2(ROOT / "handlers" / "requirements.txt", folder / name)


@contextlib.contextmanager
def emulated(folder: Path, deadline: float) -> Iterator[Stack]:
    """The staged template under ``twolane up``."""
    command = [
        sys.executable, "-m", "twolane_local.cli", "up", "--json", "--quiet", "--no-console",
        "--no-reload", "--template", str(folder / "template.yaml"), "--port", "0",
        "--aws-port", "0",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise ProofError("`twolane up` did not start with the proof's template; see above")
        said = json.loads(line)
        yield Stack(
            "local",
            said["outputs"],
            "local",
            deadline,
            endpoint_url=said["aws"],
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - the emulator takes any
        )
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def deployed(folder: Path, options: argparse.Namespace) -> Iterator[Stack]:
    """The staged template on AWS, under a name of this run; it is deleted, whatever happens."""
    import boto3

    name = f"twolane-proof-{secrets.token_hex(4)}"
    token = secrets.token_urlsafe(24)
    session = boto3.Session(region_name=options.region, profile_name=options.profile)
    if session.region_name is None:
        raise ProofError("no region: name one with --region or AWS_REGION")
    say(f"deploying {name} to {session.region_name}; `prove.py --delete {name}` removes it")
    try:
        deploy(name, token, folder, session, options)
        outputs = session.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        yield Stack(
            name,
            {one["OutputKey"]: one["OutputValue"] for one in outputs["Outputs"]},
            token,
            time.monotonic() + LIMIT_S,
            **_of(session),
        )
    finally:
        delete(name, session)


def _of(session: Any) -> dict[str, Any]:
    keys = session.get_credentials().get_frozen_credentials()
    return {
        "region_name": session.region_name,
        "aws_access_key_id": keys.access_key,
        "aws_secret_access_key": keys.secret_key,
        "aws_session_token": keys.token,
    }


def deploy(name: str, token: str, folder: Path, session: Any, options: argparse.Namespace) -> None:
    """Build with `sam build`, compile one of the two copies, and deploy through an own bucket."""
    sam, runtime = str(options.sam), str(options.runtime)
    if shutil.which(sam) is None or shutil.which(runtime) is None:
        raise ProofError(
            f"{sam} and {runtime} must be on the PATH; --sam and --runtime name others"
        )
    parameters = [f"Runtime={runtime}", f"Architecture={options.architecture}"]
    run([sam, "build", "--build-dir", "build", "--parameter-overrides", *parameters], folder)
    artifact = [sys.executable, "-m", "twolane_local.cli", "artifact", "--python", runtime]
    for built in (folder / "build").iterdir():
        # All but the copy that is to stay as it is.
        if built.is_dir() and built.name != "SourceFunction":
            run([*artifact, str(built)], folder)
    s3 = session.client("s3")
    where = (
        {}
        if session.region_name == "us-east-1"
        else {"CreateBucketConfiguration": {"LocationConstraint": session.region_name}}
    )
    s3.create_bucket(Bucket=name, **where)
    environ = {**os.environ, "AWS_REGION": session.region_name}
    if options.profile:
        environ["AWS_PROFILE"] = options.profile
    run(
        [
            sam, "deploy", "--template-file", "build/template.yaml", "--stack-name", name,
            "--s3-bucket", name, "--capabilities", "CAPABILITY_IAM", "--region",
            session.region_name, "--no-confirm-changeset", "--no-progressbar",
            "--parameter-overrides", *parameters, f"Token={token}",
        ],
        folder,
        environ,
        secret=token,
    )  # fmt: skip


def run(
    command: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None, secret: str = ""
) -> None:
    """Run one command; its output is shown where it fails."""
    shown = " ".join(command)
    say(shown.replace(secret, "…") if secret else shown)
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        text = (done.stdout + done.stderr)[-4000:]
        raise ProofError(
            f"{command[0]} {command[1]} failed ({done.returncode}):\n"
            + (text.replace(secret, "…") if secret else text)
        )


def delete(name: str, session: Any) -> None:
    """Remove the stack, the bucket and the functions' log groups. Safe to call again."""
    say(f"deleting {name}")
    from botocore.exceptions import ClientError

    formation = session.client("cloudformation")
    functions: list[str] = []
    with contextlib.suppress(ClientError):  # there is none (any more)
        pages = formation.get_paginator("list_stack_resources").paginate(StackName=name)
        functions = [
            one["PhysicalResourceId"]
            for page in pages
            for one in page["StackResourceSummaries"]
            if one["ResourceType"] == "AWS::Lambda::Function"
        ]
    formation.delete_stack(StackName=name)
    formation.get_waiter("stack_delete_complete").wait(
        StackName=name, WaiterConfig={"Delay": 10, "MaxAttempts": 90}
    )
    for function in functions:
        with contextlib.suppress(ClientError):  # a function that was never invoked has none
            session.client("logs").delete_log_group(logGroupName=f"/aws/lambda/{function}")
    bucket = session.resource("s3").Bucket(name)
    with contextlib.suppress(ClientError):
        bucket.objects.all().delete()
        bucket.delete()
    say(f"{name} is gone")


# What is shown.


def report(
    checks: Sequence[Check], emulator: Mapping[str, Answer], aws: Mapping[str, Answer]
) -> str:
    """A block for each check: the statement, and both answers."""
    lines = []
    for check in checks:
        lines.append(f"{check.name}: {check.statement}")
        for where, answers in (("emulator", emulator), ("AWS", aws)):
            answer = answers.get(check.name)
            if answer is not None:
                sign = {True: "holds", False: "DOES NOT HOLD", None: "measured"}[answer.holds]
                lines.append(f"  {where:<8} {sign}: {answer.said}")
    return "\n".join(lines)


def unverified(checks: Sequence[Check]) -> str:
    """The rows of the page's list."""
    rows = ["| what is said | nearest page | check |", "|---|---|---|"]
    rows += [f"| {one.statement} | [AWS]({one.page}) | `{one.name}` |" for one in checks]
    return "\n".join(rows)


def write_page(text: str) -> None:
    page = PAGE.read_text()
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(page):
        raise ProofError(f"{PAGE.name} has no place for the list: {BEGIN} … {END}")
    PAGE.write_text(pattern.sub(lambda _: f"{BEGIN}\n\n{text}\n\n{END}", page))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("only", nargs="*", help="only checks whose name begins with one of these")
    parser.add_argument("--emulator", action="store_true", help="ask only the emulator")
    parser.add_argument("--list", action="store_true", help="write the list of docs/limits.md")
    parser.add_argument("--delete", metavar="NAME", help="remove what a killed run has left")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the answers there")
    parser.add_argument("--region", help="where to deploy (AWS_REGION, the profile's)")
    parser.add_argument("--profile", help="whose credentials to use")
    parser.add_argument("--runtime", default="python3.13", help="the functions' (python3.13)")
    parser.add_argument("--architecture", default="x86_64", help="x86_64 or arm64, as this machine")
    parser.add_argument("--sam", default="sam", help="the SAM CLI")
    options = parser.parse_args(arguments)
    # As Ctrl-C: what was deployed is deleted.
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        return _main(options)
    except ProofError as error:
        say(f"aws-proof: {error}")
        return 2
    except KeyboardInterrupt:
        say("aws-proof: interrupted; what was deployed is deleted")
        return 130


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def _main(options: argparse.Namespace) -> int:
    if options.list:
        write_page(unverified(CHECKS))
        return 0
    if options.delete:
        import boto3

        delete(
            options.delete,
            boto3.Session(region_name=options.region, profile_name=options.profile),
        )
        return 0
    checks = [
        one
        for one in CHECKS
        if not options.only or any(one.name.startswith(name) for name in options.only)
    ]
    if not checks:
        names = ", ".join(one.name for one in CHECKS)
        raise ProofError(f"no check is named so; there are {names}")
    answers: dict[str, dict[str, Answer]] = {"emulator": {}, "aws": {}}
    with tempfile.TemporaryDirectory(prefix="twolane-proof-") as name:
        folder = Path(name)
        stage(folder)
        deadline = time.monotonic() + LIMIT_S
        with emulated(folder, deadline) as stack:
            answers["emulator"] = ask(stack, checks, deadline, "emulator")
        if not options.emulator:
            with deployed(folder, options) as stack:
                answers["aws"] = ask(stack, checks, time.monotonic() + LIMIT_S, "AWS")
    print(report(checks, answers["emulator"], answers["aws"]))
    if options.json:
        options.json.write_text(json.dumps(_as_json(checks, answers), indent=2) + "\n")
    asked = answers["emulator" if options.emulator else "aws"]
    return 1 if any(answer.holds is False for answer in asked.values()) else 0


def _as_json(
    checks: Sequence[Check], answers: Mapping[str, Mapping[str, Answer]]
) -> list[dict[str, Any]]:
    return [
        {
            "name": one.name,
            "statement": one.statement,
            "page": one.page,
            **{
                where: asdict(found[one.name])
                for where, found in answers.items()
                if one.name in found
            },
        }
        for one in checks
    ]


if __name__ == "__main__":
    sys.exit(main())
