"""The calls for settings of functions: each is a resource of its own beside the function.

https://docs.aws.amazon.com/lambda/latest/api/API_Operations.html

"""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_.resources import (
    TAGS_LIMIT,
    Functions,
    Target,
    conflict,
    function_arn,
    invalid,
    iso,
    not_found,
    page,
    picked,
    stale,
    target_of_call,
)
from twolane_local.aws.rest_json import RefusedError
from twolane_local.model import LATEST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.aws.changes import Changes, Document
    from twolane_local.aws.rest_json import Call, Members
    from twolane_local.clock import Clock


#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_CONCURRENCY, _UNRESERVED = 1000, 100
_CODE_TOTAL, _CODE_UNZIPPED, _CODE_ZIPPED = 80_530_636_800, 262_144_000, 52_428_800
_NO_RESOURCE = "The resource you requested does not exist."
_ALIAS = re.compile(r"(?!\d+$)[a-zA-Z0-9_-]+")


class SettingOperations:
    """Answers the calls for concurrency, invoke configs, URLs, permissions, tags and the rest."""

    def __init__(
        self,
        changes: Changes,
        clock: Clock,
        url_of: Callable[[str], str] = lambda _: "",
        free_port: Callable[[str], int] = lambda _: 0,
    ) -> None:
        """``url_of`` returns the address of a function URL by its id, ``free_port`` binds one."""
        self._changes, self._clock = changes, clock
        self._functions = Functions(changes)
        self._url_of, self._free_port = url_of, free_port

    async def _put(self, kind: str, key: str, document: Document) -> None:
        async with self._changes.changing():
            self._changes.put(kind, key, document)

    async def _delete(self, kind: str, key: str) -> None:
        async with self._changes.changing():
            self._changes.delete(kind, key)

    # Recursion: https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionRecursionConfig.html

    async def get_function_recursion_config(self, call: Call) -> Members:
        name = target_of_call(call).name
        self._functions.latest(name)
        return self._changes.get("recursion", name) or {"RecursiveLoop": "Terminate"}

    async def put_function_recursion_config(self, call: Call) -> Members:
        name = target_of_call(call).name
        self._functions.latest(name)
        document = {"RecursiveLoop": call.params["RecursiveLoop"]}
        await self._put("recursion", name, document)
        return document

    # Concurrency: https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html

    async def put_function_concurrency(self, call: Call) -> Members:
        target = self._unqualified(call)
        wanted = int(call.params["ReservedConcurrentExecutions"])
        if self._unreserved(without=target.name) - wanted < _UNRESERVED:
            raise invalid(
                "Specified ReservedConcurrentExecutions for function decreases account's "
                f"UnreservedConcurrentExecution below its minimum value of [{_UNRESERVED}].",
                untyped=True,
            )
        document = {"ReservedConcurrentExecutions": wanted}
        await self._put("concurrency", target.name, document)
        return document

    async def get_function_concurrency(self, call: Call) -> Members:
        self._functions.latest(target_of_call(call).name)
        return self._changes.get("concurrency", self._unqualified(call).name) or {}

    async def delete_function_concurrency(self, call: Call) -> Members:
        await self._delete("concurrency", self._unqualified(call).name)
        return {}

    def _unqualified(self, call: Call) -> Target:
        target = target_of_call(call)
        if target.qualifier:
            raise invalid(
                "This operation is permitted on Lambda functions only. Aliases and versions do not "
                "support this operation. Please specify either a function name or an unqualified "
                "function ARN."
            )
        if self._changes.get("function", target.name) is None:
            raise not_found(f"Function not found: {function_arn(target.name)}:{LATEST}")
        return target

    def _unreserved(self, without: str = "") -> int:
        return _CONCURRENCY - sum(
            int(document["ReservedConcurrentExecutions"])
            for name, document in self._changes.all("concurrency").items()
            if name != without
        )

    async def put_provisioned_concurrency_config(self, call: Call) -> Members:
        target = self._published(call)
        self._functions.check_tenancy(target.name, "Provisioned concurrency")
        if not target.qualifier.isdigit():
            version, _ = self._functions.version(target)
            if self._changes.get("provisioned", f"{target.name}:{version}") is not None:
                raise conflict(
                    "Alias can't be used for Provisioned Concurrency configuration on an already "
                    "Provisioned version"
                )
        else:
            for alias, document in self._functions.of("alias", target.name).items():
                pointed = document["FunctionVersion"] == target.qualifier
                provisioned = self._changes.get("provisioned", f"{target.name}:{alias}")
                if pointed and provisioned is not None:
                    raise conflict("Version is pointed by a Provisioned Concurrency alias")
        wanted = int(call.params["ProvisionedConcurrentExecutions"])
        reserved = self._changes.get("concurrency", target.name)
        most = reserved["ReservedConcurrentExecutions"] if reserved else self._unreserved()
        if wanted > most:
            raise invalid(
                "Requested Provisioned Concurrency should not be greater than the "
                "reservedConcurrentExecution for function"
                if reserved
                else "Specified ConcurrentExecutions for function is greater than account's "
                f"unreserved concurrency [{most}].",
                untyped=True,
            )
        if most - wanted < _UNRESERVED and not reserved:
            raise invalid(
                "Specified ConcurrentExecutions for function decreases account's "
                f"UnreservedConcurrentExecution below its minimum value of [{_UNRESERVED}].",
                untyped=True,
            )
        document = {"Requested": wanted, "LastModified": self._clock.time()}
        await self._put("provisioned", target.key, document)
        return {
            **_provisioned(document), "Status": "IN_PROGRESS",
            "AllocatedProvisionedConcurrentExecutions": 0,
            "AvailableProvisionedConcurrentExecutions": 0,
        }  # fmt: skip

    def _published(self, call: Call) -> Target:
        target = target_of_call(call)
        if target.qualifier == LATEST:
            raise invalid(
                "Provisioned Concurrency Configs cannot be applied to unpublished function "
                "versions."
            )
        self._check_alias_or_version(target)
        return target

    def _check_alias_or_version(self, target: Target) -> None:
        if self._functions.exists(target):
            return
        if not _ALIAS.fullmatch(target.qualifier):
            raise not_found(f"Function not found: {target.arn}")
        raise not_found(f"Cannot find alias arn: {target.arn}")

    async def get_provisioned_concurrency_config(self, call: Call) -> Members:
        target = self._qualified(call)
        self._check_alias_or_version(target)
        document = self._changes.get("provisioned", target.key)
        if document is None:
            raise RefusedError(
                404, "ProvisionedConcurrencyConfigNotFoundException",
                "No Provisioned Concurrency Config found for this function",
            )  # fmt: skip
        return _provisioned(document)

    def _qualified(self, call: Call) -> Target:
        target = target_of_call(call)
        if target.qualifier == LATEST:
            raise invalid("The function resource provided must be an alias or a published version.")
        return target

    async def delete_provisioned_concurrency_config(self, call: Call) -> Members:
        target = self._qualified(call)
        self._check_alias_or_version(target)
        await self._delete("provisioned", target.key)
        return {}

    async def list_provisioned_concurrency_configs(self, call: Call) -> Members:
        name = target_of_call(call).name
        self._functions.latest(name)
        found = [
            {"FunctionArn": Target(name, qualifier).arn, **_provisioned(document)}
            for qualifier, document in self._functions.of("provisioned", name).items()
        ]
        return page("ProvisionedConcurrencyConfigs", found, call.params)

    # Invoke configurations:
    # https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-configuring.html

    async def put_function_event_invoke_config(self, call: Call) -> Members:
        return await self._put_invoke_config(call, {})

    async def update_function_event_invoke_config(self, call: Call) -> Members:
        target = _or_latest(target_of_call(call))
        if not self._functions.exists(target):
            raise not_found("The function doesn't exist.")
        return await self._put_invoke_config(call, self._invoke_config(target))

    async def _put_invoke_config(self, call: Call, former: Document) -> Members:
        target = _or_latest(target_of_call(call))
        given = picked(
            call.params, ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
        )
        if not given:
            raise invalid("You must specify at least one of error handling or destination setting.")
        if not self._functions.exists(target):
            raise not_found("The function doesn't exist.")
        for side in (given.get("DestinationConfig") or {}).values():
            self._check_destination(target, side.get("Destination"), given["DestinationConfig"])
        document = {**former, **given, "LastModified": self._clock.time()}
        await self._put("invoke-config", target.key, document)
        return _invoke_config(target, document)

    def _check_destination(self, target: Target, arn: str | None, config: Document) -> None:
        if arn is None:
            return
        parts = arn.split(":")
        if len(parts) < 6 or parts[2] not in {"lambda", "sns", "sqs", "events", "s3"}:
            sides = (config.get(side) or {} for side in ("OnSuccess", "OnFailure"))
            success, failure = (each.get("Destination") for each in sides)
            raise invalid(
                "The provided destination config DestinationConfig(onSuccess="
                f"{_java('OnSuccess', success)}, onFailure={_java('OnFailure', failure)}) is "
                "invalid."
            )
        if parts[2] == "lambda":
            name = parts[6]
            if name == target.name:
                raise invalid("You can't specify the function as a destination for itself.")
            if self._changes.get("function", name) is None:
                raise invalid(f"The destination ARN {arn} is invalid.")

    def _invoke_config(self, target: Target) -> Document:
        document = self._changes.get("invoke-config", target.key)
        if document is None:
            raise not_found(f"The function {target.arn} doesn't have an EventInvokeConfig")
        return document

    async def get_function_event_invoke_config(self, call: Call) -> Members:
        target = _or_latest(target_of_call(call))
        return _invoke_config(target, self._invoke_config(target))

    async def delete_function_event_invoke_config(self, call: Call) -> Members:
        target = _or_latest(target_of_call(call))
        self._invoke_config(target)
        await self._delete("invoke-config", target.key)
        return {}

    async def list_function_event_invoke_configs(self, call: Call) -> Members:
        name = target_of_call(call).name
        if self._changes.get("function", name) is None:
            raise not_found("The function doesn't exist.")
        found = [
            _invoke_config(Target(name, qualifier), document)
            for qualifier, document in self._functions.of("invoke-config", name).items()
        ]
        return page("FunctionEventInvokeConfigs", found, call.params)

    # URLs: https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html

    async def create_function_url_config(self, call: Call) -> Members:
        target = self._with_url(call)
        self._functions.check_tenancy(target.name, "Function URL")
        now = self._clock.time()
        identity = f"url-{uuid.uuid4().hex[:12]}"
        async with self._changes.changing():
            if self._changes.get("url", target.key) is not None:
                raise conflict(
                    f"Failed to create function url config for [functionArn = {target.arn}]. Error "
                    "message:  FunctionUrlConfig exists for this Lambda function"
                )
            document = {
                "Id": identity, "Port": self._free_port(identity), "Created": now, "Modified": now,
                **_url_properties(call, {"InvokeMode": "BUFFERED"}),
            }  # fmt: skip
            self._changes.put("url", target.key, document)
        shown = self._shown_url(target, document)
        mode = shown["InvokeMode"] if "InvokeMode" in call.params else None
        return {**shown, "LastModifiedTime": None, "InvokeMode": mode}

    def _with_url(self, call: Call) -> Target:
        target = target_of_call(call)
        if not self._functions.exists(target):
            raise not_found("Function does not exist")
        return target

    def _url(self, target: Target) -> Document:
        document = self._changes.get("url", target.key)
        if document is None:
            raise not_found(_NO_RESOURCE)
        return document

    def _shown_url(self, target: Target, document: Document) -> Members:
        created = float(document.get("Created", 0.0))
        return {
            "FunctionUrl": f"{self._url_of(document['Id']).rstrip('/')}/",
            "FunctionArn": target.arn,
            "AuthType": document["AuthType"],
            "Cors": document.get("Cors"),
            "CreationTime": _zulu(created),
            "LastModifiedTime": _zulu(float(document.get("Modified", created))),
            "InvokeMode": document["InvokeMode"],
        }

    async def get_function_url_config(self, call: Call) -> Members:
        target = target_of_call(call)
        return self._shown_url(target, self._url(target))

    async def update_function_url_config(self, call: Call) -> Members:
        target = self._with_url(call)
        async with self._changes.changing():
            document = {
                **_url_properties(call, self._url(target)), "Modified": self._clock.time()
            }  # fmt: skip
            self._changes.put("url", target.key, document)
        return self._shown_url(target, document)

    async def delete_function_url_config(self, call: Call) -> Members:
        target = target_of_call(call)
        self._url(target)
        await self._delete("url", target.key)
        return {}

    async def list_function_url_configs(self, call: Call) -> Members:
        name = target_of_call(call).name
        if self._changes.get("function", name) is None:
            raise not_found("Function does not exist")
        found = [
            self._shown_url(Target(name, qualifier), document)
            for qualifier, document in self._functions.of("url", name).items()
        ]
        return page("FunctionUrlConfigs", found, call.params)

    # Permissions: https://docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html

    async def add_permission(self, call: Call) -> Members:
        target, params = target_of_call(call), call.params
        if target.qualifier == LATEST:
            raise invalid("We currently do not support adding policies for $LATEST.")
        self._check_alias_or_version(target)
        statement = statement_of(target, params)
        async with self._changes.changing():
            document = self._changes.get("policy", target.key) or {"Statements": []}
            self._check_policy_revision(target, params)
            if any(each["Sid"] == statement["Sid"] for each in document["Statements"]):
                raise conflict(
                    f"The statement id ({statement['Sid']}) provided already exists. Please "
                    "provide a new statement id, or remove the existing statement."
                )
            statements = [*document["Statements"], statement]
            self._changes.put("policy", target.key, {"Statements": statements})
            self._functions.bump(target.key)
        return {"Statement": json.dumps(statement)}

    def _check_policy_revision(self, target: Target, params: Members) -> None:
        current = self._policy_revision(target)
        if params.get("RevisionId", current) != current:
            raise stale("GetPolicy")

    def _policy_revision(self, target: Target) -> str:
        alias = self._changes.get("alias", target.key)
        document = alias or self._functions.version(target)[1]
        return self._functions.revision(target.key, document)

    async def remove_permission(self, call: Call) -> Members:
        target, wanted = target_of_call(call), call.params["StatementId"]
        if self._changes.get("function", target.name) is None:
            raise not_found(f"No policy found for: {target.arn}")
        self._check_alias_or_version(target)
        async with self._changes.changing():
            document = self._changes.get("policy", target.key)
            if document is None:
                raise not_found("No policy is associated with the given resource.")
            left = [each for each in document["Statements"] if each["Sid"] != wanted]
            if len(left) == len(document["Statements"]):
                raise not_found(f"Statement {wanted} is not found in resource policy.")
            self._check_policy_revision(target, call.params)
            if left:
                self._changes.put("policy", target.key, {"Statements": left})
            else:
                self._changes.delete("policy", target.key)
            self._functions.bump(target.key)
        return {}

    async def get_policy(self, call: Call) -> Members:
        target = target_of_call(call)
        document = self._changes.get("policy", target.key)
        if document is None or not self._functions.exists(target):
            raise not_found(_NO_RESOURCE)
        policy = {"Version": "2012-10-17", "Id": "default", "Statement": document["Statements"]}
        return {"Policy": json.dumps(policy), "RevisionId": self._policy_revision(target)}

    # Tags: https://docs.aws.amazon.com/lambda/latest/dg/configuration-tags.html

    async def list_tags(self, call: Call) -> Members:
        return {"Tags": dict(self._changes.get("tags", self._tagged(call)) or {})}

    async def tag_resource(self, call: Call) -> Members:
        key = self._tagged(call)
        tags = {**(self._changes.get("tags", key) or {}), **call.params["Tags"]}
        if not call.params["Tags"]:
            raise invalid("An error occurred and the request cannot be processed.")
        if len(tags) > TAGS_LIMIT:
            raise invalid("Number of tags exceeds resource tag limit.")
        await self._put_tags(key, tags)
        return {}

    async def _put_tags(self, key: str, tags: Document) -> None:
        async with self._changes.changing():
            self._changes.put("tags", key, tags)
            if self._changes.get("function", key) is not None:
                self._functions.bump(key)

    async def untag_resource(self, call: Call) -> Members:
        key = self._tagged(call)
        gone = set(call.params["TagKeys"])
        tags = self._changes.get("tags", key) or {}
        await self._put_tags(key, {name: tags[name] for name in tags if name not in gone})
        return {}

    def _tagged(self, call: Call) -> str:
        """The key of a resource's tags: a function's name, else the ARN."""
        arn = str(call.params["Resource"])
        kind, _, name = arn.split(":", 5)[5].partition(":")
        if kind == "function":
            if ":" in name:
                raise invalid(
                    "Tags on function aliases and versions are not supported. Please specify a "
                    "function ARN."
                )
            self._functions.latest(name)
            return name
        if kind == "event-source-mapping" and self._changes.get("mapping", name) is None:
            raise not_found(f"Event source mapping not found: {arn}")
        if kind == "capacity-provider":
            raise not_found(f"Capacity provider not found: {arn}")
        return arn

    # The account: https://docs.aws.amazon.com/lambda/latest/api/API_GetAccountSettings.html

    async def get_account_settings(self, call: Call) -> Members:
        del call
        documents = [
            *self._changes.all("function").values(), *self._changes.all("version").values()
        ]  # fmt: skip
        size = sum(int((each.get("Code") or {}).get("Size", 0)) for each in documents)
        size += sum(int(each.get("Size", 0)) for each in self._changes.all("layer").values())
        return {
            "AccountLimit": {
                "TotalCodeSize": _CODE_TOTAL,
                "CodeSizeUnzipped": _CODE_UNZIPPED,
                "CodeSizeZipped": _CODE_ZIPPED,
                "ConcurrentExecutions": _CONCURRENCY,
                "UnreservedConcurrentExecutions": self._unreserved(),
            },
            "AccountUsage": {
                "TotalCodeSize": size,
                "FunctionCount": len(self._changes.all("function")),
            },
        }

    # What has no effect here, and is kept.

    async def get_runtime_management_config(self, call: Call) -> Members:
        target = self._found(call)
        document = self._changes.get("runtime-management", target.key)
        return {**(document or {"UpdateRuntimeOn": "Auto"}), "FunctionArn": _or_latest(target).arn}

    async def put_runtime_management_config(self, call: Call) -> Members:
        target = self._found(call)
        document = picked(call.params, ("UpdateRuntimeOn", "RuntimeVersionArn"))
        await self._put("runtime-management", target.key, document)
        return {**document, "FunctionArn": _or_latest(target).arn}

    def _found(self, call: Call) -> Target:
        target = target_of_call(call)
        self._functions.version(target)
        return target


def _or_latest(target: Target) -> Target:
    return target if target.qualifier else Target(target.name, LATEST)


def _provisioned(document: Document) -> Members:
    count = document["Requested"]
    return {
        "RequestedProvisionedConcurrentExecutions": count,
        "AvailableProvisionedConcurrentExecutions": count,
        "AllocatedProvisionedConcurrentExecutions": count,
        "Status": "READY",
        "LastModified": iso(document["LastModified"]),
    }


def _invoke_config(target: Target, document: Document) -> Members:
    shown = picked(document, ("MaximumRetryAttempts", "MaximumEventAgeInSeconds"))
    destinations = {"OnSuccess": {}, "OnFailure": {}, **(document.get("DestinationConfig") or {})}
    return {
        "LastModified": document.get("LastModified", 0.0), "FunctionArn": target.arn, **shown,
        "DestinationConfig": destinations,
    }  # fmt: skip


def _java(name: str, destination: str | None) -> str:
    return f"{name}(destination={destination})" if destination else "null"


def _url_properties(call: Call, former: Document) -> Document:
    return {**former, **picked(call.params, ("AuthType", "Cors", "InvokeMode"))}


def _zulu(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_ACCOUNT = re.compile(r"\d{12}")
_SERVICE = re.compile(r"[a-z0-9.-]+\.amazonaws\.com(\.cn)?|[a-z0-9-]+\.(alexa|amazon)\.\S+")
_PRINCIPAL = re.compile(r"arn:aws[a-z-]*:(iam|sts)::\d{12}:\S+")


def statement_of(target: Target, params: Mapping[str, Any]) -> Document:
    """A permission as a statement of the function's policy."""
    principal: Any = params["Principal"]
    if _ACCOUNT.fullmatch(principal):
        principal = {"AWS": f"arn:aws:iam::{principal}:root"}
    elif _PRINCIPAL.fullmatch(principal):
        principal = {"AWS": principal}
    elif _SERVICE.fullmatch(principal):
        principal = {"Service": principal}
    elif principal != "*":
        raise invalid(
            "The provided principal was invalid. Please check the principal and try again."
        )
    equals = {
        name: params[key]
        for name, key in (
            ("AWS:SourceAccount", "SourceAccount"),
            ("lambda:EventSourceToken", "EventSourceToken"),
            ("lambda:FunctionUrlAuthType", "FunctionUrlAuthType"),
            ("aws:PrincipalOrgID", "PrincipalOrgID"),
        )
        if key in params
    }
    condition: Document = {}
    if equals:
        condition["StringEquals"] = equals
    if "SourceArn" in params:
        condition["ArnLike"] = {"AWS:SourceArn": params["SourceArn"]}
    if "InvokedViaFunctionUrl" in params:
        via = str(params["InvokedViaFunctionUrl"]).lower()
        condition["Bool"] = {"lambda:InvokedViaFunctionUrl": via}
    return {
        "Sid": params["StatementId"], "Effect": "Allow", "Principal": principal,
        "Action": params["Action"], "Resource": target.arn,
        **({"Condition": condition} if condition else {}),
    }  # fmt: skip
