"""Who else runs a Python function behind HTTP: each serves ``src/bench.py`` of a folder."""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERLESS = """
service: bench
frameworkVersion: "3"
provider: {name: aws, runtime: python3.13}
functions: {api: {handler: bench.mangum, events: [{httpApi: "*"}]}}
plugins: [serverless-offline]
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    for _ in range(500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)


@contextmanager
def uvicorn_alone(folder: Path) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "bench:app", "--port", str(port), "--log-level",
         "critical", "--no-access-log"],
        cwd=folder / "src",
    )  # fmt: skip
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def rie_binary() -> Path | None:
    """The runtime interface emulator that ships with the SAM CLI, where that is installed."""
    sam = shutil.which("sam")
    if sam is None:
        return None
    root = Path(sam).parent.parent  # its virtual environment
    found = root.glob("lib/python*/site-packages/samcli/local/rapid/aws-lambda-rie-x86_64")
    return next(found, None)


@contextmanager
def rie_alone(binary: Path, folder: Path) -> Iterator[str]:
    """The same handler under the real client and AWS's own emulator: one request at a time."""
    copy = folder / "rie"  # a wheel's file need not be executable
    shutil.copy(binary, copy)
    copy.chmod(0o755)
    port = free_port()
    process = subprocess.Popen(
        [copy, "--runtime-interface-emulator-address", f"127.0.0.1:{port}",
         "--runtime-api-address", f"127.0.0.1:{free_port()}",
         sys.executable, "-m", "awslambdaric", "bench.mangum"],
        cwd=folder / "src", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13"},
    )  # fmt: skip
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
    finally:
        process.kill()
        process.wait(10)


@contextmanager
def serverless_offline(folder: Path) -> Iterator[str]:
    """The same handler under serverless-offline, in Python processes of its own.

    A new one for each measurement: between its looking for an idle process and its use, a second
    request gets the same one, and then waits for the time-out. It happens when the load changes.
    """
    program = Path(shutil.which("serverless") or "").resolve()
    service = folder / "serverless"
    if not service.exists():
        service.mkdir()
        (service / "serverless.yml").write_text(SERVERLESS)
        (service / "node_modules").symlink_to(program.parents[2])
        shutil.copy(folder / "src" / "bench.py", service)
    http, invoke = free_port(), free_port()
    process = subprocess.Popen(
        [program, "offline", "start", "--httpPort", str(http), "--lambdaPort", str(invoke)],
        cwd=service, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "CI": "1", "SLS_TELEMETRY_DISABLED": "1",
             "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    try:
        wait_for(http)
        yield f"http://127.0.0.1:{http}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@contextmanager
def ministack(folder: Path) -> Iterator[str]:
    """The same handler behind a function URL of MiniStack, in its warm workers."""
    port = free_port()
    process = subprocess.Popen(
        [shutil.which("ministack") or "ministack"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        # Its workers are of its own Python, which has to find what the handler imports.
        env={**os.environ, "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1",
             "LOG_LEVEL": "ERROR", "PYTHONPATH": sysconfig.get_path("purelib")},
    )  # fmt: skip
    try:
        wait_for(port)
        client = boto3.client(
            "lambda", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
            aws_access_key_id="x", aws_secret_access_key="x",
        )  # fmt: skip
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as code:
            code.write(folder / "src" / "bench.py", "bench.py")
        client.create_function(
            FunctionName="api", Runtime="python3.13", Handler="bench.mangum", Timeout=30,
            Role="arn:aws:iam::000000000000:role/x", Code={"ZipFile": archive.getvalue()},
            MemorySize=512,
        )  # fmt: skip
        url = client.create_function_url_config(FunctionName="api", AuthType="NONE")["FunctionUrl"]
        identity = url.removeprefix("https://").partition(".")[0]
        yield f"http://127.0.0.1:{port}/_aws/lambda-url/{identity}/"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
