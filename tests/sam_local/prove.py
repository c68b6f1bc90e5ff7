"""``sam local start-api`` and ``sam local invoke`` beside ``twolane up --no-http``, in real Docker.

Builds with ``sam build``, makes the base image, starts the emulator and sam, posts a deferred task
to the API in its container, and waits until the emulator's mapping has had the worker do it.

    python prove.py SAM            (SAM: the path of the sam command)
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
ARCHITECTURE = {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "x86_64")
PARAMETERS = f"Runtime=python{VERSION} Architecture={ARCHITECTURE}"
BODY = {"email": "ada@example.com", "message": "from a container"}
WAIT_S = 120.0


def say(text: str) -> None:
    sys.stderr.write(f"· {text}\n")


def run(*command: str | Path, **options: Any) -> str:
    """Its standard output; ends the whole proof with all that it said if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n"
                 f"{done.stdout}{done.stderr}")  # fmt: skip
    return done.stdout


@contextlib.contextmanager
def background(log: Path, *command: str | Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process with its output in ``log``, stopped at the end as Ctrl-C would stop it."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stderr=output, stdout=output, text=True, start_new_session=True, **options
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def until(what: str, ready: Any, process: subprocess.Popen[str], log: Path) -> Any:
    """What ``ready`` returns once it is true; ends the proof where it does not come."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError, OSError):
            if found := ready():
                return found
        time.sleep(0.2)
    sys.exit(f"{what} did not come about; {log.name} says:\n{log.read_text()[-6000:]}")


def docker_answers() -> bool:
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def docker(folder: Path) -> Iterator[None]:
    """A Docker that answers: this machine's, or one of our own where we may start it."""
    if shutil.which("docker") is None:
        sys.exit("no docker here; install your distribution's (apt-get install docker.io)")
    if docker_answers():
        yield
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        sys.exit("docker does not answer; start it (systemctl start docker), try again")
    say("starting dockerd")
    log = folder / "dockerd.log"
    with background(log, "dockerd", "--data-root", folder / "docker") as process:
        until("a docker that answers", docker_answers, process, log)
        yield


def base_image() -> None:
    """AWS's image's name on our own root, and none of sam's own that stand on an older one."""
    run(sys.executable, HERE / "base_image.py", VERSION, ARCHITECTURE)
    names = run("docker", "images", "--format", "{{.Repository}}:{{.Tag}}").split()
    for name in names:
        if "lambda/python" in name and "rapid" in name:
            run("docker", "rmi", "--force", name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    sam = sys.argv[1]
    aws_port, api_port = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(docker(folder))
        say("making the base image")
        base_image()
        say("sam build")
        # sam looks for exactly pythonX.Y, with its pip.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environ = {**os.environ, "SAM_CLI_TELEMETRY": "0", "PATH": path}
        built = folder / "build"
        run(sam, "build", "--build-dir", built, "--parameter-overrides", PARAMETERS,
            cwd=ROOT, env=environ)  # fmt: skip
        template, variables = built / "template.yaml", folder / "env.json"

        say("twolane up --no-http --sam-local")
        log = folder / "up.log"
        twolane = Path(sys.executable).with_name("twolane")
        up = stack.enter_context(background(
            log, twolane, "up", "--no-http", "--no-reload", "--aws-port", str(aws_port),
            "--sam-local", variables,
            cwd=ROOT,
        ))  # fmt: skip
        until("the emulator", lambda: "twolane is up" in log.read_text(), up, log)

        exports = run(twolane, "env", "--aws-port", str(aws_port))
        environ |= dict(line.removeprefix("export ").split("=", 1) for line in exports.splitlines())
        flags = ("--template", template, "--env-vars", variables, "--skip-pull-image",
                 "--add-host", "host.docker.internal:host-gateway",
                 "--parameter-overrides", PARAMETERS)  # fmt: skip

        say("sam local start-api")
        api_log = folder / "api.log"
        api = stack.enter_context(background(
            api_log, sam, "local", "start-api", *flags, "--port", str(api_port),
            cwd=ROOT, env=environ,
        ))  # fmt: skip
        client = stack.enter_context(
            httpx.Client(base_url=f"http://127.0.0.1:{api_port}", timeout=WAIT_S)
        )
        until("sam's API", lambda: client.get("/healthz").status_code == 200, api, api_log)
        answer = client.post("/notify/deferred", json=BODY)
        if answer.status_code != 202:
            sys.exit(f"{answer.status_code}: {answer.text}\n{api_log.read_text()[-6000:]}")
        await_success(client, answer.json()["id"], api, api_log, log)

        say("sam local invoke")
        said = run(sam, "local", "invoke", "ApiFunction", *flags,
                   "--event", ROOT / "events" / "api-notify-deferred.json",
                   cwd=ROOT, env=environ)  # fmt: skip
        response = json.loads(said[said.index("{") :].strip().splitlines()[-1])
        if response["statusCode"] != 202:
            sys.exit(f"sam local invoke: {said}")
        await_success(client, json.loads(response["body"])["id"], api, api_log, log)
    say("sam local works beside twolane")


def await_success(
    client: httpx.Client, task: str, api: subprocess.Popen[str], api_log: Path, log: Path
) -> None:
    """Seen through the container's API, and done by the emulator's worker."""

    def state() -> Any:
        return client.get(f"/tasks/{task}").json().get("state") == "SUCCESS"

    until(f"the success of {task}", state, api, api_log)
    if not any(task[:8] in line and "succeeded" in line for line in log.read_text().splitlines()):
        sys.exit(f"the emulator's worker did not do {task}:\n{log.read_text()[-6000:]}")
    say(f"{task} succeeded in the emulator")


if __name__ == "__main__":
    main()
