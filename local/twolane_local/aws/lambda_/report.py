"""The log lines and error objects of Lambda itself, the paths that a log shows, and the journal's
events of invocations.

https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import sys
import sysconfig
import time
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_.interpreters import missing_package_remedy
from twolane_local.journal import cut
from twolane_local.journal.tracebacks import brief
from twolane_local.model import LATEST, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec

    Line = bytes | Callable[[], bytes]


#: The length for ``LogType=Tail``: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
TAIL_BYTES = 4096
#: The reasons of invocations that ended with their environment.
STOPPED, KILLED = "the environment was stopped", "the environment was killed"
#: The beginning of Lambda's own messages before the request id is filled in.
_NO_ID = "RequestId:  Error:"
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a REPORT line; times in milliseconds, memory in MB."""

    duration_ms: float
    memory_mb: int
    max_memory_mb: int
    init_ms: float | None
    restore_ms: float | None = None

    def line(self, request_id: str, status: str = "success", error: str = "") -> bytes:
        """The line as CloudWatch shows it; init is billed, as on AWS since August 2025."""
        end = "" if status == "success" else f"Status: {status}\t"
        if status == "error":  # those of a function's own are not in the line
            end = f"{end}Error Type: {error}\t" if error.startswith("Runtime.") else ""
        init = "" if self.init_ms is None else f"Init Duration: {self.init_ms:.2f} ms\t"
        if self.restore_ms is not None:
            # https://docs.aws.amazon.com/lambda/latest/dg/snapstart-monitoring.html
            init = (
                f"Restore Duration: {self.restore_ms:.2f} ms\t"
                f"Billed Restore Duration: {math.ceil(self.restore_ms)} ms\t"
            )
        return (
            f"REPORT RequestId: {request_id}\tDuration: {self.duration_ms:.2f} ms\t"
            f"Billed Duration: {self.billed_ms} ms\tMemory Size: {self.memory_mb} MB\t"
            f"Max Memory Used: {self.max_memory_mb} MB\t{init}{end}\n"
        ).encode()

    @property
    def billed_ms(self) -> int:
        return math.ceil(self.duration_ms + (self.init_ms or 0))

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures of a ``platform.report``.

        https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html
        """
        values: dict[str, Any] = {
            "durationMs": round(self.duration_ms, 3),
            "billedDurationMs": self.billed_ms,
            "memorySizeMB": self.memory_mb,
            "maxMemoryUsedMB": self.max_memory_mb,
        }
        if self.init_ms is not None:
            values["initDurationMs"] = round(self.init_ms, 3)
        if self.restore_ms is not None:
            values["restoreDurationMs"] = round(self.restore_ms, 3)
        return values

    def as_dict(self) -> dict[str, Any]:
        """The fields of the journal's event."""
        values: dict[str, Any] = {
            "durationMs": round(self.duration_ms, 2),
            "billedMs": self.billed_ms,
            "memoryMb": self.memory_mb,
            "maxMemoryMb": self.max_memory_mb,
        }
        if self.init_ms is not None:
            values["initMs"] = round(self.init_ms, 2)
        if self.restore_ms is not None:
            values["restoreMs"] = round(self.restore_ms, 2)
        return values


class Memory:
    """The peak resident memory of a process, read once a second at most."""

    _EVERY_S = 1.0

    def __init__(self) -> None:
        self._peak = 0
        self._read_at = float("-inf")

    def peak_mb(self, pid: int) -> int:
        """In MB; the last known value once the process has ended, 0 without /proc."""
        now = time.monotonic()
        if now - self._read_at >= self._EVERY_S:
            self._read_at = now
            self._peak = max(self._peak, peak_memory_mb(pid))
        return self._peak


class Figures:
    """Makes the reports of one environment."""

    def __init__(self, memory_mb: int, *, restores: bool = False) -> None:
        """``restores``: the environment begins with a restore, not with an init."""
        self._memory_mb = memory_mb
        self._restores = restores
        self._memory = Memory()
        self.init_ms = 0.0
        #: True until its first invocation has ended.
        self.cold = True
        #: The init was part of that invocation, and of its duration.
        self.repeated = False

    def began(self) -> dict[str, Any]:
        """The duration of the init or restore, as a field of the journal's event."""
        return {"restoreMs" if self._restores else "initMs": round(self.init_ms, 2)}

    def report(self, duration_ms: float, pid: int) -> Report:
        """The report of an invocation in this process."""
        return Report(
            duration_ms=duration_ms,
            memory_mb=self._memory_mb,
            max_memory_mb=self._memory.peak_mb(pid),
            init_ms=(self.init_ms if self.cold and not (self._restores or self.repeated) else None),
            restore_ms=self.init_ms if self.cold and self._restores else None,
        )


def peak_memory_mb(pid: int) -> int:
    """``VmHWM`` of proc(5), in MB."""
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return 0
    _, found, rest = status.partition(b"VmHWM:")
    return int(rest.split(None, 1)[0]) // 1024 if found else 0


def memory_mb(pid: int) -> int:
    """The resident memory of a process now, in MB: the second figure of proc(5)'s statm, pages."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_bytes().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * _PAGE // (1024 * 1024)


def error(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()


def import_failed(module: str, why: object) -> bytes:
    """The runtime client's error object for a module that cannot be imported."""
    return json.dumps(
        {
            "errorMessage": f"Unable to import module '{module}': {why}",
            "errorType": "Runtime.ImportModuleError",
            "requestId": "",
            "stackTrace": [],
        }
    ).encode()


def of_request(failure: bytes, request_id: str) -> bytes:
    """The error object of an init, as the response of the invocation that caused it.

    Lambda's own messages get the request id, which an init does not have. The runtime client's
    error keeps an empty one, as AWS returns it (localstack, test_lambda_runtime_error).
    """
    try:
        value = json.loads(failure)
    except ValueError:
        return failure
    if not isinstance(value, dict):
        return failure
    message = value.get("errorMessage")
    if not isinstance(message, str) or not message.startswith(_NO_ID):
        return failure
    value["errorMessage"] = f"RequestId: {request_id} Error:{message[len(_NO_ID) :]}"
    return json.dumps(value).encode()


#: The type of the error object of an invocation that was ended by its timeout.
TIMED_OUT = "Sandbox.Timedout"


#: The types of errors that the runtime client does not log itself.
UNLOGGED = frozenset({"Runtime.ExitError", "Runtime.InvalidEntrypoint"})


def error_type(payload: bytes) -> str:
    """The type in an error object; empty if there is none."""
    return str(_object(payload).get("errorType", ""))


def error_line(payload: bytes) -> bytes:
    """The log line of an error that Lambda found itself."""
    value = _object(payload)
    text = f"{value.get('errorMessage', '')}\n{value.get('errorType', '')}\n"
    return text.encode("utf-8", "backslashreplace")


def _object(payload: bytes) -> dict[str, Any]:
    """The error object, which may be of a runtime of the function's own."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def timed_out(request_id: str, timeout_s: float) -> bytes:
    return error(
        TIMED_OUT,
        f"RequestId: {request_id} Error: Task timed out after {timeout_s:.2f} seconds",
    )


def init_timed_out() -> bytes:
    """The error object of an init for a snapshot."""
    return error("Sandbox.Timedout", "Error: the init phase did not end in time")


def restore_timed_out() -> bytes:
    """https://docs.aws.amazon.com/lambda/latest/dg/snapstart-troubleshooting.html"""
    return error(
        "Lambda.SnapStartTimeoutException",
        "Lambda couldn't restore the snapshot within the timeout limit.",
    )


_SIGNALS = {9: "killed", 11: "segmentation fault", 6: "aborted", 15: "terminated"}


def exit_status_text(status: int) -> str:
    """The exit status of a process in Lambda's words; it is negative for a signal."""
    return f"exit status {status}" if status >= 0 else f"signal: {_SIGNALS.get(-status, -status)}"


def exit_reason(status: int) -> str:
    """The reason of an invocation whose process ended by itself or by a signal from outside."""
    return f"the environment exited ({exit_status_text(status)})"


def exited(request_id: str, status: int) -> bytes:
    if status == 0:
        return no_response(request_id)
    return error(
        "Runtime.ExitError",
        f"RequestId: {request_id} Error: Runtime exited with error: {exit_status_text(status)}",
    )


def no_response(request_id: str) -> bytes:
    return error(
        "Runtime.ExitError",
        f"RequestId: {request_id} Error: Runtime exited without providing a reason",
    )


def too_large(size: int, limit: int = 6_291_556) -> bytes:
    """https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
    return error(
        "Function.ResponseSizeTooLarge",
        f"Response payload size ({size} bytes) exceeded maximum allowed payload size "
        f"({limit} bytes).",
    )


def import_problem(spec: FunctionSpec, failure: bytes) -> str:
    """One line about a function whose init failed."""
    try:
        value: Mapping[str, Any] = json.loads(failure)
    except ValueError:
        value = {}
    message = brief(str(value.get("errorMessage", "")).removeprefix(_NO_ID))
    reason = f"{value.get('errorType', 'Error')}: {message}"
    missing = [file for file in (spec.code_dir, spec.program) if file and not file.exists()]
    if missing:
        what = f"there is no {missing[0]}: {reason}"
    else:
        what = (
            f"handler {spec.handler} in {spec.code_dir} does not load: {reason} "
            "(its own output is above)"
        )
    where = f"{spec.where}: " if spec.where else ""
    remedy = missing_package_remedy(spec, failure)
    what += f"; {remedy}" if remedy else ""
    return f"{where}{spec.logical_id}: {what}; its invocations fail until that is corrected"


class InvocationRecord:
    """Records the events of one invocation in the journal, each of them once."""

    __slots__ = ("_at", "_ended", "_function", "_journal", "_request_id", "_responded")

    def __init__(self, journal: Journal, function: str, request_id: str) -> None:
        self._journal, self._function, self._request_id = journal, function, request_id
        self._at: float | None = None
        self._responded = self._ended = False

    def started(self, *, cold: bool, payload: bytes | None = None) -> None:
        """An environment begins the invocation; ``payload`` is the event."""
        if self._at is None:
            content: dict[str, Any] = {} if payload is None else {"payload": cut(payload)}
            self._at = self._record("invocation.started", cold=cold, **content)

    def responded(self, duration_ms: float, error: str | None, payload: bytes | None) -> None:
        """The caller has the outcome; on an error, ``payload`` is the error object."""
        if self._at is None or self._responded:
            return
        self._responded = True
        content: dict[str, Any] = {} if payload is None else {"payload": cut(payload)}
        self._record(
            "invocation.responded", durationMs=round(duration_ms, 2), error=error, **content
        )

    def ended(self, report: Report, reason: str = "") -> None:
        """Nothing of it runs any more; ``reason`` is set if the handler did not end it."""
        if self._at is None or self._ended:
            return
        self._ended = True
        why = {"reason": reason} if reason else {}
        self._record("invocation.ended", **report.as_dict(), **why)

    def _record(self, kind: str, **data: Any) -> float:
        return self._journal.record(
            kind, function=self._function, request_id=self._request_id, **data
        ).at

    @property
    def over(self) -> bool:
        """True once the invocation has ended."""
        return self._ended

    def age_ms(self) -> float:
        """The time since it began, on the journal's clock; 0 if it has not begun."""
        return 0.0 if self._at is None else (self._journal.now() - self._at) * 1000


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
        level, fields = _LEVELS["INFO"], _object_in(line)
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


def time_out_line(request_id: str, timeout_s: float, now: float) -> bytes:
    """The line of an invocation that was ended by its timeout."""
    return f"{_stamp(now)} {request_id} Task timed out after {timeout_s:.2f} seconds\n\n".encode()


def _json_line(now: float, kind: str, record: dict[str, Any]) -> bytes:
    line = {"time": _stamp(now), "type": f"platform.{kind}", "record": record}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _stamp(now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"


def _object_in(line: bytes) -> dict[str, Any] | None:
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
