"""The log lines and error objects of Lambda itself, and the journal's events of invocations.

https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_.requirements import missing_package_remedy
from twolane_local.journal import cut

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec


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
    message = " ".join(str(value.get("errorMessage", "")).removeprefix(_NO_ID).split())
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
