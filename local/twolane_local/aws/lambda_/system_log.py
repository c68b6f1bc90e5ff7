"""The lines of Lambda itself in a function's log, as text or JSON, and the paths that a log shows.

https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import sysconfig
import time
from datetime import datetime
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any

from twolane_local.model import LATEST, REGION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twolane_local.aws.lambda_.report import Report
    from twolane_local.model import FunctionSpec

    Line = bytes | Callable[[], bytes]

JSON = "JSON"
_LEVELS = {"TRACE": 0, "DEBUG": 1, "INFO": 2, "WARN": 3, "WARNING": 3, "ERROR": 4, "FATAL": 5,
           "CRITICAL": 5}  # fmt: skip
#: The ends of an invocation in a REPORT line.
SUCCESS, ERROR, TIMEOUT = "success", "error", "timeout"


class SystemLog:
    """Makes the lines for one environment. A line that its level leaves out is ``None``.

    A text log has the lines of level INFO and above.
    """

    def __init__(self, spec: FunctionSpec, version: str = LATEST) -> None:
        self._version, self._runtime = version, spec.runtime
        self._json = spec.log_format.upper() == JSON
        self._level = _LEVELS.get(spec.system_log_level, 2) if self._json else 2
        self._application = _LEVELS.get(spec.application_log_level, 2)
        #: False if ``hides`` is False for all lines.
        self.filters = self._json and self._application > 0

    def init_start(self, kind: str, now: float) -> Line:
        """``now`` is in seconds since the epoch, here and below."""
        version, arn = _runtime_version(self._runtime)
        if not self._json:
            line = f"INIT_START Runtime Version: {version}\tRuntime Version ARN: {arn}\n"
            return line.encode()
        record = {
            "initializationType": kind, "phase": "init", "runtimeVersion": version,
            "runtimeVersionArn": arn, "functionVersion": self._version,
        }  # fmt: skip
        return _json_line(now, "initStart", record)

    def init_report(self, duration_ms: float, error: str, now: float) -> Line:
        """The line of an init that failed with this type of error, or took too long."""
        status = ERROR if error else TIMEOUT
        if self._json:
            record = {"phase": "init", "status": status, "errorType": error or None}
            metrics = {"durationMs": round(duration_ms, 3)}
            return _json_line(now, "initReport", record | {"metrics": metrics})
        why = f"{status}\tError Type: {error}" if error else status
        line = f"INIT_REPORT Init Duration: {duration_ms:.2f} ms\tPhase: init\tStatus: {why}\n"
        return line.encode()

    def start(self, request_id: str, now: float) -> Line | None:
        if not self._json:
            return f"START RequestId: {request_id} Version: {self._version}\n".encode()
        if self._level > _LEVELS["INFO"]:
            return None
        record = {"requestId": request_id, "version": self._version}
        return partial(_json_line, now, "start", record)

    def end(
        self, request_id: str, report: Report, now: float, status: str, error: str = ""
    ) -> list[Line]:
        """END and REPORT, or what JSON has in their place; ``error`` is the type of the error."""
        if not self._json:
            return [
                f"END RequestId: {request_id}\n".encode(),
                partial(report.line, request_id, status, error),
            ]
        outcome = {"requestId": request_id, "status": status}
        outcome |= {"errorType": error} if error else {}
        lines: list[Line] = []
        if self._level <= (_LEVELS["DEBUG"] if status == SUCCESS else _LEVELS["WARN"]):
            done = outcome | {"metrics": {"durationMs": round(report.duration_ms, 3)}}
            lines.append(partial(_json_line, now, "runtimeDone", done))
        if self._level <= (_LEVELS["INFO"] if status == SUCCESS else _LEVELS["WARN"]):
            lines.append(lambda: _json_line(now, "report", outcome | {"metrics": report.metrics}))
        return lines

    def hides(self, line: bytes) -> bool:
        """True if the level of the application's log leaves a line out.

        A line without a known level, or without a valid time, has level INFO.
        """
        level, fields = _LEVELS["INFO"], _object(line)
        if fields is None:
            return False  # not JSON: Lambda filters JSON objects only
        if _is_time(fields.get("timestamp") or fields.get("time")):
            level = _LEVELS.get(str(fields.get("level", "")).upper(), level)
        return level < self._application


@cache
def _runtime_version(runtime: str) -> tuple[str, str]:
    """The version of a runtime, which is ours, and an ARN as Lambda makes one for it."""
    version = re.sub(r"^(python|provided)\.?", r"\1:", runtime) + ".local"
    digest = hashlib.sha256(version.encode()).hexdigest()
    return version, f"arn:aws:lambda:{REGION}::runtime:{digest}"


def timed_out(request_id: str, timeout_s: float, now: float) -> bytes:
    """The line of an invocation that was ended by its timeout."""
    return f"{_stamp(now)} {request_id} Task timed out after {timeout_s:.2f} seconds\n\n".encode()


def _json_line(now: float, kind: str, record: dict[str, Any]) -> bytes:
    line = {"time": _stamp(now), "type": f"platform.{kind}", "record": record}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _stamp(now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"


def _object(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_time(value: Any) -> bool:
    if not isinstance(value, str) or "T" not in value:
        return False
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def text_of(line: Line) -> bytes:
    return line if isinstance(line, bytes) else line()


def task_paths(spec: FunctionSpec) -> Callable[[bytes], bytes]:
    """Replaces the folders of this machine by those of an execution environment.

    The code and its requirements are in ``/var/task``, layers in ``/opt``, Python's own modules in
    ``/var/lang``: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
    """
    return _replacing(
        spec.code_dir, tuple(spec.packages), tuple(spec.layer_sources), tuple(spec.layer_dirs)
    )


@lru_cache(maxsize=256)
def _replacing(
    code: Path, packages: tuple[Path, ...], sources: tuple[Path, ...], layers: tuple[Path, ...]
) -> Callable[[bytes], bytes]:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders = {
        sysconfig.get_path("stdlib"): f"/var/lang/lib/{version}",
        sysconfig.get_path("purelib"): "/var/task",
        **{str(folder): "/var/task" for folder in packages},
        **{str(folder): "/opt/python" for folder in sources},
        **{str(folder): "/opt" for folder in layers},
        str(code): "/var/task",
    }
    shown: dict[bytes, bytes] = {}
    for folder, place in folders.items():
        if len(folder) > 1:
            shown[folder.encode("utf-8", "surrogateescape")] = place.encode()
            shown[json.dumps(folder)[1:-1].encode()] = place.encode()  # within JSON
    longest = sorted(shown, key=len, reverse=True)
    found = re.compile(rb"(?<![\w./-])(" + b"|".join(map(re.escape, longest)) + rb")(?![\w.-])")
    return partial(found.sub, lambda match: shown[match[1]])
