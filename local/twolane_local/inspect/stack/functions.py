"""A stack's functions, in the control API's shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.inspect.stack.account import asked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.inspect.source import Json
    from twolane_local.inspect.stack.account import Account
    from twolane_local.inspect.stack.resources import Resources


class StackFunctions:
    """What Lambda says of them. Their environment variables are never looked at."""

    def __init__(self, account: Account, resources: Resources) -> None:
        self._account = account
        self.names = {
            resource.physical_id: resource.logical_id
            for resource in resources.of("AWS::Lambda::Function")
        }

    def listed(self) -> list[Json]:
        """``Function`` of each, but for what only the emulator sees of their environments."""
        return [
            shape(self._configuration(name), logical_id, self._reserved(name))
            for name, logical_id in sorted(self.names.items())
        ]

    def log_groups(self) -> dict[str, str]:
        """The log group of each function: its own where it names one, else Lambda's default."""
        found = {}
        for name in self.names:
            logging = self._configuration(name).get("LoggingConfig") or {}
            found[name] = str(logging.get("LogGroup") or f"/aws/lambda/{name}")
        return found

    def name_of(self, wanted: str) -> str:
        """The function's name, from its name or logical id. Raises ``LocalError``."""
        for name, logical_id in self.names.items():
            if wanted in {name, logical_id}:
                return name
        known = ", ".join(sorted(self.names.values())) or "none"
        raise LocalError(f"the stack has no function {wanted!r}; it has: {known}")

    def _configuration(self, name: str) -> Mapping[str, Any]:
        with asked(f"function {name}"):
            found: Mapping[str, Any] = self._account.client("lambda").get_function_configuration(
                FunctionName=name
            )
        return found

    def _reserved(self, name: str) -> int | None:
        with asked(f"concurrency of {name}"):
            answer = self._account.client("lambda").get_function_concurrency(FunctionName=name)
        reserved = answer.get("ReservedConcurrentExecutions")
        return None if reserved is None else int(reserved)


def shape(configuration: Mapping[str, Any], logical_id: str, reserved: int | None) -> Json:
    """https://docs.aws.amazon.com/lambda/latest/api/API_GetFunctionConfiguration.html"""
    return {
        "name": configuration["FunctionName"],
        "logicalId": logical_id,
        "handler": configuration.get("Handler"),
        "runtime": configuration.get("Runtime"),
        "memoryMb": configuration.get("MemorySize"),
        "timeoutSeconds": configuration.get("Timeout"),
        "concurrency": {"reserved": reserved},
        "state": configuration.get("State"),
        "lastModified": configuration.get("LastModified"),
    }
