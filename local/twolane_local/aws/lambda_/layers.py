"""The calls for layers: https://docs.aws.amazon.com/lambda/latest/dg/chapter-layers.html"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import uuid
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_.resources import (
    conflict,
    invalid,
    iso,
    not_found,
    page,
    picked,
    stale,
)
from twolane_local.aws.rest_json import RefusedError
from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from twolane_local.aws.changes import Changes, Document
    from twolane_local.aws.lambda_.control import FunctionOperations
    from twolane_local.aws.rest_json import Call, Members
    from twolane_local.clock import Clock

_ARN = re.compile(r"(?:arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:layer:)?(?P<name>[A-Za-z0-9_-]+)")
_OTHERS = ("Description", "CompatibleRuntimes", "CompatibleArchitectures", "LicenseInfo")


class LayerOperations:
    """Answers the calls for layers."""

    def __init__(self, changes: Changes, functions: FunctionOperations, clock: Clock) -> None:
        self._changes, self._functions, self._clock = changes, functions, clock

    async def publish_layer_version(self, call: Call) -> Members:
        name, content = _name(call), call.params["Content"]
        async with self._changes.changing():
            code = await self._functions.kept(content)
            counter = self._changes.get("counter", f"layer:{name}") or {}
            number = max([int(counter.get("Last", 0)), *self._numbers(name)]) + 1
            document: Document = {
                "Arn": f"{_layer_arn(name)}:{number}", **code, "Created": self._clock.time(),
                **picked(call.params, _OTHERS),
            }  # fmt: skip
            self._changes.put("layer", f"{name}:{number}", document)
            self._changes.put("counter", f"layer:{name}", {"Last": number})
        shown = await self._describe(name, number, document)
        given = ("CompatibleRuntimes", "CompatibleArchitectures")
        return {**shown, **{key: call.params.get(key) for key in given}}

    async def get_layer_version(self, call: Call) -> Members:
        return await self._describe(*self._version(_name(call), call.params["VersionNumber"]))

    async def get_layer_version_by_arn(self, call: Call) -> Members:
        name, _, number = str(call.params["Arn"]).partition(":layer:")[2].partition(":")
        return await self._describe(*self._version(name, int(number)))

    def _version(self, name: str, number: int) -> tuple[str, int, Document]:
        if number < 1:
            raise invalid("Layer Version Cannot be less than 1")
        document = self._changes.get("layer", f"{name}:{number}")
        if document is None:
            raise not_found("The resource you requested does not exist.")
        return name, number, document

    async def delete_layer_version(self, call: Call) -> Members:
        name, number = _name(call), int(call.params["VersionNumber"])
        if number < 1:
            raise invalid("Layer Version Cannot be less than 1")
        async with self._changes.changing():
            # A function that uses it keeps it: it has its own copy on AWS, and its folder here.
            self._changes.delete("layer", f"{name}:{number}")
            self._changes.delete("layer-policy", f"{name}:{number}")
        return {}

    async def list_layer_versions(self, call: Call) -> Members:
        name = _name(call)
        found = [
            await self._listed(name, number)
            for number in sorted(self._numbers(name), reverse=True)
            if self._is_compatible(name, number, call)
        ]
        return page("LayerVersions", found, call.params)

    async def list_layers(self, call: Call) -> Members:
        names = sorted({key.partition(":")[0] for key in self._changes.all("layer")})
        found = []
        for name in names:
            numbers = [
                each for each in self._numbers(name) if self._is_compatible(name, each, call)
            ]
            if numbers:
                latest = await self._listed(name, max(numbers))
                shown = {"LayerName": name, "LayerArn": _layer_arn(name)}
                found.append({**shown, "LatestMatchingVersion": latest})
        return page("Layers", found, call.params)

    def _is_compatible(self, name: str, number: int, call: Call) -> bool:
        document = _about(self._changes.get("layer", f"{name}:{number}") or {})
        runtime = call.params.get("CompatibleRuntime")
        architecture = call.params.get("CompatibleArchitecture")
        return (runtime is None or runtime in (document.get("CompatibleRuntimes") or ())) and (
            architecture is None
            or architecture in (document.get("CompatibleArchitectures") or (architecture,))
        )

    def _numbers(self, name: str) -> list[int]:
        return [
            int(number)
            for key in self._changes.all("layer")
            for of, _, number in [key.partition(":")]
            if of == name and number.isdigit()
        ]

    async def _listed(self, name: str, number: int) -> Members:
        shown = await self._describe(*self._version(name, number))
        return {key: value for key, value in shown.items() if key not in {"Content", "LayerArn"}}

    async def _describe(self, name: str, number: int, document: Document) -> Members:
        about, arn = _about(document), _layer_arn(name)
        digest, size = document.get("Sha256", ""), document.get("Size", 0)
        if "Properties" in document:
            digest, size = await asyncio.to_thread(self._functions.packed_layer, f"{arn}:{number}")
        content: dict[str, Any] = {
            "CodeSha256": base64.b64encode(bytes.fromhex(digest)).decode(),
            "CodeSize": size,
        }
        if digest:
            content["Location"] = self._functions.location(digest)
        return {
            "Content": content,
            "LayerArn": arn,
            "LayerVersionArn": f"{arn}:{number}",
            "Version": number,
            "Description": about.get("Description", ""),
            "CreatedDate": iso(document.get("Created", self._functions.began)),
            "CompatibleRuntimes": about.get("CompatibleRuntimes") or None,
            "CompatibleArchitectures": about.get("CompatibleArchitectures") or None,
            "LicenseInfo": about.get("LicenseInfo") or None,
        }

    # https://docs.aws.amazon.com/lambda/latest/api/API_AddLayerVersionPermission.html

    def _policy(self, call: Call) -> tuple[str, str, Document | None]:
        name, number = _name(call), int(call.params["VersionNumber"])
        if number < 1:
            raise invalid("Layer Version Cannot be less than 1")
        arn, key = f"{_layer_arn(name)}:{number}", f"{name}:{number}"
        if self._changes.get("layer", key) is None:
            raise not_found(f"Layer version {arn} does not exist.")
        document = self._changes.get("layer-policy", key)
        wanted = call.params.get("RevisionId")
        if wanted is not None and (document is None or document["RevisionId"] != wanted):
            raise stale("GetLayerPolicy")
        return key, arn, document

    async def add_layer_version_permission(self, call: Call) -> Members:
        key, arn, document = self._policy(call)
        params, principal = call.params, call.params["Principal"]
        statement: Document = {
            "Sid": params["StatementId"], "Effect": "Allow",
            "Principal": principal if principal == "*" or ":" in principal
            else {"AWS": f"arn:aws:iam::{principal}:root"},
            "Action": params["Action"], "Resource": arn,
        }  # fmt: skip
        if "OrganizationId" in params:
            organisation = {"aws:PrincipalOrgID": params["OrganizationId"]}
            statement["Condition"] = {"StringEquals": organisation}
        statements = document["Statements"] if document else []
        if any(each["Sid"] == statement["Sid"] for each in statements):
            raise conflict(
                f"The statement id ({statement['Sid']}) provided already exists. Please provide a "
                "new statement id, or remove the existing statement."
            )
        revision = await self._put_policy(key, [*statements, statement])
        return {"Statement": json.dumps(statement), "RevisionId": revision}

    async def _put_policy(self, key: str, statements: list[Any]) -> str:
        revision = str(uuid.uuid4())
        async with self._changes.changing():
            if statements:
                document = {"Statements": statements, "RevisionId": revision}
                self._changes.put("layer-policy", key, document)
            else:
                self._changes.delete("layer-policy", key)
        return revision

    async def remove_layer_version_permission(self, call: Call) -> Members:
        key, _, document = self._policy(call)
        statements, wanted = document["Statements"] if document else [], call.params["StatementId"]
        left = [each for each in statements if each["Sid"] != wanted]
        if len(left) == len(statements):
            raise not_found(f"Statement {wanted} is not found in resource policy.")
        await self._put_policy(key, left)
        return {}

    async def get_layer_version_policy(self, call: Call) -> Members:
        _, _, document = self._policy(call)
        if document is None:
            raise not_found("No policy is associated with the given resource.")
        policy = {"Version": "2012-10-17", "Id": "default", "Statement": document["Statements"]}
        return {"Policy": json.dumps(policy), "RevisionId": document["RevisionId"]}


def _name(call: Call) -> str:
    match = _ARN.fullmatch(str(call.params["LayerName"]))
    if match is None:
        raise RefusedError(400, "InvalidParameterValueException", "Invalid Layer name")
    return match["name"]


def _layer_arn(name: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:{name}"


def _about(document: Document) -> Document:
    about: Document = document.get("Properties", document)
    return about
