"""`twolane invoke` with the event files that come with the repository."""

from __future__ import annotations

import hashlib
import json
import subprocess

import pytest

from .conftest import BIN, ROOT, clean_environ, readme_blocks, shell


def invoke(
    function: str, event: str, *flags: str, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "twolane"), "invoke", function, "--event", event, *flags],
        input=given, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        env=clean_environ(),
    )  # fmt: skip


@pytest.mark.slow
def test_api_event_from_stdin() -> None:
    done = invoke("ApiFunction", "-", given=(ROOT / "events" / "api-notify.json").read_text())
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"]) == {"message": "Notification will be sent"}
    # The command waits for the work after the response.
    assert "Sending notification to user@example.com" in done.stderr
    assert "succeeded app.tasks.send_notification" in done.stderr


@pytest.mark.slow
def test_the_lines_of_the_readme() -> None:
    done = shell(readme_blocks()["invoke"])
    assert done.returncode == 0, done.stderr
    api, worker, beat = (json.loads(line) for line in done.stdout.splitlines())
    assert api["statusCode"] == 200
    assert worker == {"batchItemFailures": []}
    assert beat["published"]


def test_worker_event() -> None:
    done = invoke("WorkerFunction", "events/worker-send-notification.json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"batchItemFailures": []}
    assert "Sending notification to user@example.com" in done.stderr
    assert "was refused" in done.stderr


@pytest.mark.slow
def test_beat_event() -> None:
    done = invoke("BeatFunction", "events/beat-slot.json")
    assert done.returncode == 0, done.stderr
    (published,) = json.loads(done.stdout)["published"]
    assert published["entry"] == "daily-digest"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "event"),
    [
        ("ApiFunction", "api-healthz.json"),
        ("ApiFunction", "api-notify-deferred.json"),
        ("BeatFunction", "beat-tick.json"),
    ],
)
def test_other_event_files(function: str, event: str) -> None:
    done = invoke(function, f"events/{event}")
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)


@pytest.mark.slow
def test_a_failed_function_is_an_exit_code() -> None:
    done = invoke("BeatFunction", "events/api-healthz.json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["errorType"] == "ConfigurationError"


@pytest.mark.slow
def test_the_parameter_asks_for_the_key_here_as_when_deployed() -> None:
    event = json.loads((ROOT / "events" / "api-notify.json").read_text())
    parameter = f"ApiKeySha256={hashlib.sha256(b'a-key').hexdigest()}"
    statuses = []
    for headers in ({}, {"x-api-key": "a-key"}):
        event["headers"] |= headers
        done = invoke("ApiFunction", "-", "--parameter", parameter, given=json.dumps(event))
        statuses.append(json.loads(done.stdout)["statusCode"])
    assert statuses == [401, 200]
