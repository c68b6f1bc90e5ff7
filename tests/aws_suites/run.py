"""Runs public test suites that were validated against AWS, against ``twolane up``.

Start it through ``make aws-suites SUITE=DIR``; DIR is a checkout of localstack/localstack, never
part of this repository. The suites are unmodified. Their clients are pointed at an emulator that
starts for each suite and ends with it; their answers are compared with those that AWS gave
(``*.snapshot.json``).

Only tests are run that passed against AWS (marked ``aws_validated``) and that are not skipped;
``--skipped`` runs those that LocalStack skips because it fails them.
Every test that does not pass must be in ``NAME.txt`` with its reason, and every test that is there
must not pass: the run fails otherwise (``plugin.py``).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
ACCOUNT = "123456789012"

#: Each suite: what is run of the checkout. ``NAME.txt`` lists what does not pass.
_LAMBDA = "tests/aws/services/lambda_/test_lambda.py"
SUITES = {
    "destinations": ("tests/aws/services/lambda_/test_lambda_destinations.py",),
    "function_urls": (
        f"{_LAMBDA}::TestLambdaURL",
        f"{_LAMBDA}::TestRequestIdHandling",
        f"{_LAMBDA}::TestLambdaErrors",
        f"{_LAMBDA}::TestLambdaFeatures",
    ),
    "lambda_api": ("tests/aws/services/lambda_/test_lambda_api.py",),
    "mappings": (
        "tests/aws/services/lambda_/event_source_mapping/test_lambda_integration_sqs.py",
        "tests/aws/services/lambda_/test_lambda_api.py::TestLambdaEventSourceMappings",
    ),
    "sqs": ("tests/aws/services/sqs/test_sqs.py", "tests/aws/services/sqs/test_sqs_move_task.py"),
}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def emulator(twolane: str) -> Iterator[str]:
    """``twolane up`` on an almost empty template; the address of its AWS endpoint."""
    with tempfile.TemporaryDirectory() as directory:
        shutil.copy(HERE / "template.yaml", directory)
        process = subprocess.Popen(
            [twolane, "up", "--aws-port", str(free_port()), "--port", "0", "--no-console",
             "--no-reload", "--json", "--quiet"],
            cwd=directory, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = next((line for line in process.stdout if line.startswith("{")), None)
            if line is None:
                raise SystemExit(f"`twolane up` did not start: it ended with {process.wait(30)}")
            # Whatever it prints from now on must not fill the pipe.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield str(json.loads(line)["aws"])
        finally:
            process.terminate()
            process.wait(30)


def run(name: str, suite: Path, options: argparse.Namespace) -> int:
    """Run one suite; its exit code is pytest's."""
    with emulator(options.twolane) as endpoint:
        environment = {
            **os.environ,
            "PYTHONPATH": str(HERE),
            "AWS_SUITE": name,
            "AWS_SUITE_SKIPPED": "1" if options.skipped else "",
            "TEST_SKIP_LOCALSTACK_START": "1",
            "TEST_AWS_ENDPOINT_URL": endpoint,
            "TEST_AWS_ACCOUNT_ID": ACCOUNT,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "plugin", "-p", "no:cacheprovider",
             "--timeout", "400", "--tb", "short", "-o", "log_level=ERROR", "-W", "ignore",
             "-n", str(options.workers), "--dist", "worksteal",
             *SUITES[name], *(("-k", options.k) if options.k else ())],
            cwd=suite, env=environment, check=False,
        ).returncode  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("twolane", help="the command `twolane`")
    parser.add_argument("suite", type=Path, help="a checkout of localstack/localstack")
    parser.add_argument("--only", choices=sorted(SUITES), action="append")
    parser.add_argument("--workers", type=int, default=4, help="tests at once; most of them wait")
    parser.add_argument(
        "--skipped", action="store_true", help="run only tests that LocalStack skips for itself"
    )
    parser.add_argument("-k", metavar="EXPRESSION", help="run tests that match, as pytest does")
    options = parser.parse_args()
    if not (options.suite / "tests/aws").is_dir():
        parser.error(f"{options.suite} is no checkout of localstack/localstack")
    return max(run(name, options.suite, options) for name in options.only or sorted(SUITES))


if __name__ == "__main__":
    sys.exit(main())
