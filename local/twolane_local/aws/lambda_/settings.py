"""The calls for settings of functions: each is a resource of its own beside the function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.aws.lambda_.resources import Functions, target_of_call

if TYPE_CHECKING:
    from twolane_local.aws.changes import Changes
    from twolane_local.aws.rest_json import Call, Members


class SettingOperations:
    """Answers the calls for recursion."""

    def __init__(self, changes: Changes) -> None:
        self._changes, self._functions = changes, Functions(changes)

    # https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionRecursionConfig.html

    async def get_function_recursion_config(self, call: Call) -> Members:
        name = target_of_call(call).name
        self._functions.latest(name)
        return self._changes.get("recursion", name) or {"RecursiveLoop": "Terminate"}

    async def put_function_recursion_config(self, call: Call) -> Members:
        name = target_of_call(call).name
        self._functions.latest(name)
        document = {"RecursiveLoop": call.params["RecursiveLoop"]}
        async with self._changes.changing():
            self._changes.put("recursion", name, document)
        return document
