"""The calls for code signing configurations, which are kept: no code is checked for signatures.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-codesigning.html
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from twolane_local.aws.lambda_.resources import (
    Functions,
    function_arn,
    iso,
    page,
    picked,
    target_of_call,
)
from twolane_local.aws.rest_json import RefusedError
from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from twolane_local.aws.changes import Changes, Document
    from twolane_local.aws.rest_json import Call, Members
    from twolane_local.clock import Clock


_MEMBERS = ("Description", "AllowedPublishers", "CodeSigningPolicies")


class CodeSigningOperations:
    """Answers the calls for code signing."""

    def __init__(self, changes: Changes, clock: Clock) -> None:
        self._changes, self._clock = changes, clock
        self._functions = Functions(changes)

    async def create_code_signing_config(self, call: Call) -> Members:
        identity = f"csc-{secrets.token_hex(9)[:17]}"
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:{identity}"
        document = {
            "CodeSigningConfigId": identity, "CodeSigningConfigArn": arn, "Description": "",
            "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn"},
            **picked(call.params, _MEMBERS), "LastModified": iso(self._clock.time()),
        }  # fmt: skip
        async with self._changes.changing():
            self._changes.put("code-signing-config", arn, document)
        return {"CodeSigningConfig": document}

    def _named(self, call: Call) -> Document:
        arn = call.params["CodeSigningConfigArn"]
        document = self._changes.get("code-signing-config", arn)
        if document is None:
            raise RefusedError(
                404, "ResourceNotFoundException",
                f"The Lambda code signing configuration {arn} can not be found.",
                more={"Type": None},
            )  # fmt: skip
        return document

    async def get_code_signing_config(self, call: Call) -> Members:
        return {"CodeSigningConfig": self._named(call)}

    async def update_code_signing_config(self, call: Call) -> Members:
        async with self._changes.changing():
            document = {
                **self._named(call), **picked(call.params, _MEMBERS),
                "LastModified": iso(self._clock.time()),
            }  # fmt: skip
            arn = document["CodeSigningConfigArn"]
            self._changes.put("code-signing-config", arn, document)
        return {"CodeSigningConfig": document}

    async def delete_code_signing_config(self, call: Call) -> Members:
        async with self._changes.changing():
            arn = self._named(call)["CodeSigningConfigArn"]
            self._changes.delete("code-signing-config", arn)
        return {}

    async def list_code_signing_configs(self, call: Call) -> Members:
        found = list(self._changes.all("code-signing-config").values())
        return page("CodeSigningConfigs", found, call.params)

    async def list_functions_by_code_signing_config(self, call: Call) -> Members:
        arn = self._named(call)["CodeSigningConfigArn"]
        found = [
            function_arn(name)
            for name, document in self._changes.all("code-signing").items()
            if document["CodeSigningConfigArn"] == arn
        ]
        return page("FunctionArns", found, call.params)

    # Of a function.

    async def put_function_code_signing_config(self, call: Call) -> Members:
        arn = call.params["CodeSigningConfigArn"]
        if self._changes.get("code-signing-config", arn) is None:
            raise RefusedError(
                404, "CodeSigningConfigNotFoundException",
                "The code signing configuration cannot be found. Check that the provided "
                f"configuration is not deleted: {arn}.",
            )  # fmt: skip
        name = target_of_call(call).name
        self._functions.latest(name)
        async with self._changes.changing():
            self._changes.put("code-signing", name, {"CodeSigningConfigArn": arn})
        return {"CodeSigningConfigArn": arn, "FunctionName": name}

    async def get_function_code_signing_config(self, call: Call) -> Members:
        name = target_of_call(call).name
        self._functions.latest(name)
        document = self._changes.get("code-signing", name)
        return {} if document is None else {"FunctionName": name, **document}

    async def delete_function_code_signing_config(self, call: Call) -> Members:
        name = target_of_call(call).name
        self._functions.latest(name)
        async with self._changes.changing():
            self._changes.delete("code-signing", name)
        return {}
