"""The calls that create, read, change and delete functions, their versions and their aliases.

https://docs.aws.amazon.com/lambda/latest/api/API_Operations.html
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from twolane_local.aws.call import AwsRequest, AwsResponse
from twolane_local.aws.lambda_.code import MAX_BYTES, ArchiveError
from twolane_local.aws.lambda_.resources import (
    TAGS_LIMIT,
    Functions,
    Target,
    check_tenancy,
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
from twolane_local.model import ACCOUNT, LATEST, REGION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twolane_local.aws.call import AwsService
    from twolane_local.aws.changes import Changes, Document
    from twolane_local.aws.lambda_.code import CodeStore
    from twolane_local.aws.rest_json import Call, Members
    from twolane_local.clock import Clock
    from twolane_local.model import Stack

#: The runtimes that a function may be created with:
#: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html
RUNTIMES = (
    "nodejs20.x", "python3.14", "provided.al2023", "python3.12", "python3.13", "nodejs24.x",
    "nodejs22.x", "java25", "python3.10", "python3.11", "java21", "ruby3.3", "ruby3.4", "ruby3.2",
    "python3.8", "python3.9", "java17", "nodejs16.x", "dotnet10", "dotnet8", "java11", "dotnet6",
    "nodejs18.x", "provided.al2", "java8.al2",
)  # fmt: skip
#: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html#runtimes-deprecated
_OLD = re.compile(
    r"provided|go1\.x|java8|dotnetcore\d.*|dotnet5\.0|ruby2\.\d|nodejs|nodejs\d\.\d+.*|"
    r"nodejs1[0-4]\.x|nodejs8\.10|python2\.7.*|python3\.[67]"
)
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
_RESERVED = frozenset({
    "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
})  # fmt: skip
_ENVIRONMENT_LIMIT, _TIMEOUT_LIMIT, _NAME_LIMIT = 4096, 900, 64
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_ZIPPED_LIMIT, _LAYERS_LIMIT = 52_428_800, 5
#: The kinds of changes to a function, and how long one takes. The function runs as changed when the
#: call is answered, but no other change is accepted for so long, as on AWS.
_CREATING, _UPDATING = "create", "update"
CHANGE_S = 0.5
#: The members of CreateFunction that are properties of the function.
_PROPERTIES = (
    "Runtime", "Role", "Handler", "Description", "Timeout", "MemorySize", "VpcConfig",
    "PackageType", "DeadLetterConfig", "Environment", "KMSKeyArn", "TracingConfig", "Layers",
    "FileSystemConfigs", "ImageConfig", "Architectures", "EphemeralStorage", "SnapStart",
    "LoggingConfig", "TenancyConfig", "DurableConfig",
)  # fmt: skip
#: The kinds of resources that belong to a function and end with it.
_CHILDREN = (
    "version", "alias", "invoke-config", "url", "concurrency", "recursion", "provisioned",
    "policy", "tags", "counter", "runtime-management", "code-signing", "revision",
)  # fmt: skip
_STATES = (
    "State", "StateReason", "StateReasonCode", "LastUpdateStatus", "LastUpdateStatusReason",
    "LastUpdateStatusReasonCode", "RuntimeVersionConfig",
)  # fmt: skip


class FunctionOperations:
    """Answers the calls for functions, versions and aliases."""

    def __init__(
        self, changes: Changes, code: CodeStore, clock: Clock, aws: AwsService, url: str
    ) -> None:
        """``aws`` answers the calls of S3 and EC2; ``url`` is the endpoint's."""
        self._changes, self._code, self._clock = changes, code, clock
        self._aws, self._url = aws, url
        self._functions = Functions(changes)
        self.began = clock.time()
        #: The template's stack.
        self.declared: Stack | None = None

    # Functions.

    async def create_function(self, call: Call) -> Members:
        name = target_of_call(call).name
        if len(name) > _NAME_LIMIT:
            raise invalid(
                f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy "
                f"constraint: Member must have length less than or equal to {_NAME_LIMIT}"
            )
        properties = picked(call.params, _PROPERTIES)
        _check(properties)
        self._check_layers(properties)
        await self._complete_vpc(properties)
        async with self._changes.changing():
            if self._changes.get("function", name) is not None:
                raise conflict(f"Function already exist: {name}")
            code = await self._code_of(call.params["Code"], properties)
            self._changes.put("function", name, self._document(properties, code, _CREATING))
            if tags := call.params.get("Tags"):
                if len(tags) > TAGS_LIMIT:
                    raise invalid("Number of tags exceeds resource tag limit.")
                self._changes.put("tags", name, dict(tags))
            if arn := call.params.get("CodeSigningConfigArn"):
                self._changes.put("code-signing", name, {"CodeSigningConfigArn": arn})
            number = await self._publish(name, "") if call.params.get("Publish") else LATEST
            return await self._describe(name, number)

    async def get_function(self, call: Call) -> Members:
        target = target_of_call(call)
        number, document = self._functions.version(target)
        configuration = await self._describe(target.name, number, target)
        code: Members = {"RepositoryType": "S3"}
        if document["Properties"].get("PackageType") == "Image":
            code["RepositoryType"] = "ECR"
        elif digest := (await self._code_about(target.name, document))[0]:
            code["Location"] = self.location(digest)
        concurrency = self._changes.get("concurrency", target.name)
        tags = self._changes.get("tags", target.name)
        return {
            "Configuration": configuration, "Code": code, "Tags": tags or None,
            "Concurrency": concurrency if target.qualifier in ("", LATEST) else None,
        }  # fmt: skip

    async def get_function_configuration(self, call: Call) -> Members:
        target = target_of_call(call)
        number, _ = self._functions.version(target)
        return await self._describe(target.name, number, target)

    async def update_function_code(self, call: Call) -> Members:
        """https://docs.aws.amazon.com/lambda/latest/api/API_UpdateFunctionCode.html"""
        name, params = target_of_call(call).name, call.params
        async with self._changes.changing():
            document = self._changeable(name)
            self._check_revision(name, document, params)
            properties = dict(document["Properties"])
            if "Architectures" in params:
                properties["Architectures"] = params["Architectures"]
            code = await self._code_of(params, properties)
            updated = self._document(properties, code, _UPDATING)
            if params.get("DryRun"):
                return await self._describe_document(name, LATEST, updated)
            self._put_function(name, updated)
            if not params.get("Publish"):
                return await self._describe(name, LATEST)
            number = await self._publish(name, "")
            return await self._describe(name, number, Target(name, number))

    async def update_function_configuration(self, call: Call) -> Members:
        """https://docs.aws.amazon.com/lambda/latest/api/API_UpdateFunctionConfiguration.html"""
        name, params = target_of_call(call).name, call.params
        async with self._changes.changing():
            document = self._changeable(name)
            self._check_revision(name, document, params)
            changed = picked(params, _PROPERTIES)
            properties = {**document["Properties"], **changed}
            _check(properties)
            self._check_layers(changed)
            await self._complete_vpc(properties)
            updated = self._document(properties, document.get("Code"), _UPDATING)
            self._put_function(name, updated)
            return await self._describe(name, LATEST)

    async def delete_function(self, call: Call) -> AwsResponse:
        target = target_of_call(call)
        name, qualifier = target.name, target.qualifier
        async with self._changes.changing():
            if qualifier == LATEST:
                raise invalid("$LATEST version cannot be deleted without deleting the function.")
            self._functions.latest(name)
            if qualifier and not qualifier.isdigit():
                raise invalid("Deletion of aliases is not currently supported.")
            if qualifier:
                self._check_unused(target)
                self._changes.delete("version", target.key)
            else:
                for kind in _CHILDREN:
                    for key in self._changes.all(kind):
                        if key.partition(":")[0] == name:
                            self._changes.delete(kind, key)
                self._changes.delete("function", name)
        headers = {"x-amzn-requestid": call.request.request_id}
        return AwsResponse(204, b"", headers)

    def _check_unused(self, target: Target) -> None:
        users = [
            f"{function_arn(target.name)}:{alias}"
            for alias, document in self._functions.of("alias", target.name).items()
            if target.qualifier in _versions_of(document)
        ]
        if users:
            raise conflict(f"Version is referenced by alias: {users[0]}")

    async def list_functions(self, call: Call) -> Members:
        """The functions by name; with ``FunctionVersion=ALL``, their versions too."""
        found = []
        everything = call.params.get("FunctionVersion") == "ALL"
        for name in sorted(self._changes.all("function")):
            qualifier = LATEST if everything else ""
            found.append(await self._listed(name, LATEST, qualifier))
            if everything:
                found += [await self._listed(name, each) for each in self._numbers(name)]
        return page("Functions", found, call.params)

    async def _listed(self, name: str, number: str, qualifier: str | None = None) -> Members:
        target = Target(name, number if qualifier is None else qualifier)
        shown = await self._describe(name, number, target)
        return {key: value for key, value in shown.items() if key not in _STATES}

    # Versions.

    async def publish_version(self, call: Call) -> Members:
        """https://docs.aws.amazon.com/lambda/latest/api/API_PublishVersion.html"""
        name, params = target_of_call(call).name, call.params
        async with self._changes.changing():
            document = self._functions.latest(name)
            self._check_revision(name, document, params)
            wanted, current = params.get("CodeSha256"), await self._digest(name, document)
            if wanted and wanted != current:
                raise invalid(
                    f"CodeSHA256 ({wanted}) is different from current CodeSHA256 in $LATEST "
                    f"({current}). Please try again with the CodeSHA256 in $LATEST."
                )
            known = self._numbers(name)
            number = await self._publish(name, str(params.get("Description") or ""))
            if number not in known:
                self._functions.bump(name)
        return await self._describe(name, number, Target(name, number))

    async def _publish(self, name: str, description: str) -> str:
        """Publish the current code and configuration, unless the last version has the same."""
        document = self._functions.latest(name)
        known = self._numbers(name)
        last = self._changes.get("version", f"{name}:{known[-1]}") if known else None
        digest, _ = await self._code_about(name, document)
        source = str(uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([document["Properties"], digest])))
        if last is not None and (
            last["Source"] == source if "Source" in last
            else self._changes.is_declared("function", name)
        ):  # fmt: skip
            return known[-1]
        counter = self._changes.get("counter", name) or {}
        number = str(max([int(counter.get("Last", 0)), *map(int, known)]) + 1)
        properties = dict(document["Properties"])
        if description:
            properties["Description"] = description
        code = document.get("Code") if "Code" in document else await self._packed(name)
        pending = picked(document, ("Ready", "Change")) if self._is_pending(document) else {}
        version = {**self._document(properties, code), **pending, "Source": source}
        if pending:
            version["Change"] = _CREATING
        self._changes.put("version", f"{name}:{number}", version)
        self._changes.put("counter", name, {"Last": int(number)})
        return number

    async def _packed(self, name: str) -> Document:
        """The code of a template's function, kept as an archive."""
        spec = self._spec(name)
        if spec is None or spec.unrunnable or not spec.code_dir.is_dir():
            return {"Sha256": "", "Size": 0}
        digest, size = await asyncio.to_thread(self._code.add_folder, spec.code_dir)
        return {"Sha256": digest, "Size": size}

    async def list_versions_by_function(self, call: Call) -> Members:
        name = target_of_call(call).name
        self._functions.latest(name)
        numbers = [LATEST, *self._numbers(name)]
        found = [await self._listed(name, number) for number in numbers]
        return page("Versions", found, call.params)

    def _numbers(self, name: str) -> list[str]:
        return sorted(self._functions.of("version", name), key=int)

    # Aliases.

    async def create_alias(self, call: Call) -> Members:
        """https://docs.aws.amazon.com/lambda/latest/api/API_CreateAlias.html"""
        function, params = target_of_call(call).name, call.params
        target = Target(function, params["Name"])
        async with self._changes.changing():
            if self._changes.get("function", function) is None:
                wanted = Target(function, params["FunctionVersion"])
                raise not_found(f"Function not found: {wanted.arn}")
            if self._changes.get("alias", target.key) is not None:
                raise conflict(f"Alias already exists: {target.arn}")
            document = {
                "FunctionVersion": params["FunctionVersion"],
                "Description": params.get("Description", ""),
                "RoutingConfig": params.get("RoutingConfig"),
                "RevisionId": str(uuid.uuid4()),
            }
            self._check_routing(function, document)
            self._changes.put("alias", target.key, document)
        return self._shown_alias(target, document)

    async def get_alias(self, call: Call) -> Members:
        target = Target(target_of_call(call).name, call.params["Name"])
        return self._shown_alias(target, self._alias(target))

    def _alias(self, target: Target) -> Document:
        document = self._changes.get("alias", target.key)
        if document is None or self._changes.get("function", target.name) is None:
            raise not_found(f"Cannot find alias arn: {target.arn}")
        return document

    async def update_alias(self, call: Call) -> Members:
        target, params = Target(target_of_call(call).name, call.params["Name"]), call.params
        async with self._changes.changing():
            if self._changes.get("alias", target.key) is None:
                raise not_found(f"Alias not found: {target.arn}")
            former = self._alias(target)
            shown = self._shown_alias(target, former)
            if params.get("RevisionId", shown["RevisionId"]) != shown["RevisionId"]:
                raise stale("GetFunction/GetAlias")
            changed = picked(params, ("FunctionVersion", "Description", "RoutingConfig"))
            document = {**former, **changed, "RevisionId": str(uuid.uuid4())}
            self._check_routing(target.name, document)
            self._changes.put("alias", target.key, document)
            self._changes.delete("revision", target.key)
        return self._shown_alias(target, document)

    async def delete_alias(self, call: Call) -> Members:
        target = Target(target_of_call(call).name, call.params["Name"])
        async with self._changes.changing():
            for kind in ("alias", "invoke-config", "url", "provisioned", "policy", "revision"):
                self._changes.delete(kind, target.key)
        return {}

    async def list_aliases(self, call: Call) -> Members:
        name = target_of_call(call).name
        self._functions.latest(name)
        found = [
            self._shown_alias(Target(name, alias), document)
            for alias, document in sorted(self._functions.of("alias", name).items())
            if call.params.get("FunctionVersion") in (None, document["FunctionVersion"])
        ]
        return page("Aliases", found, call.params)

    def _shown_alias(self, target: Target, document: Document) -> Members:
        weights = (document.get("RoutingConfig") or {}).get("AdditionalVersionWeights")
        return {
            "AliasArn": target.arn,
            "Name": target.qualifier,
            "FunctionVersion": document["FunctionVersion"],
            "Description": document.get("Description", ""),
            "RevisionId": self._functions.revision(target.key, document),
            "RoutingConfig": {"AdditionalVersionWeights": weights} if weights else None,
        }

    def _check_routing(self, function: str, alias: Document) -> None:
        """https://docs.aws.amazon.com/lambda/latest/dg/configuring-alias-routing.html"""
        self._functions.version(Target(function, alias["FunctionVersion"]))
        weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
        if len(weights) > 1:
            raise invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
        for version in weights:
            if version == alias["FunctionVersion"]:
                raise invalid(
                    f"Invalid function version {version}. Function version {version} is already "
                    "included in routing configuration."
                )
            if alias["FunctionVersion"] == LATEST:
                raise invalid(
                    "$LATEST is not supported for an alias pointing to more than 1 version",
                    untyped=True,
                )
            self._functions.version(Target(function, version))

    # Code.

    async def _code_of(self, given: Mapping[str, Any], properties: Document) -> Document | None:
        """The code that a call gives, kept."""
        if properties.get("PackageType", "Zip") == "Image":
            if "ImageUri" not in given:
                raise invalid(
                    "Please provide ImageUri when updating a function with packageType Image."
                )
            return None
        if "ImageUri" in given:
            raise invalid(
                "Please don't provide ImageUri when updating a function with packageType Zip."
            )
        return await self.kept(given)

    async def kept(self, given: Mapping[str, Any]) -> Document:
        """The archive that a call gives, in the store; raises the API's error if that fails."""
        archive = given.get("ZipFile")
        if archive is not None and len(archive) > _ZIPPED_LIMIT:
            raise RefusedError(
                413, "RequestEntityTooLargeException",
                f"Zipped size must be smaller than {_ZIPPED_LIMIT} bytes",
            )  # fmt: skip
        if archive is None and "S3Bucket" in given and "S3Key" in given:
            archive = await self._object(given)
        if archive is None:
            raise invalid("Please provide a source for function code.")
        try:
            digest = await asyncio.to_thread(self._code.add, archive)
        except ArchiveError as error:
            if "bytes unzipped" in str(error):
                raise invalid(f"Unzipped size must be smaller than {MAX_BYTES} bytes") from error
            raise invalid(
                "Could not unzip uploaded file. Please check your file, then try to upload again."
            ) from error
        return {"Sha256": digest, "Size": len(archive)}

    async def _object(self, given: Mapping[str, Any]) -> bytes:
        """An object of S3."""
        version = given.get("S3ObjectVersion")
        path = f"/{given['S3Bucket']}/{quote(given['S3Key'])}"
        query = f"versionId={version}" if version else ""
        answer = await self._aws(self._signed("s3", "GET", path, query))
        if answer.status == 200:
            return answer.body
        text = answer.body.decode("utf-8", "replace")
        found = [re.search(f"<{tag}>(.*?)</{tag}>", text) for tag in ("Code", "Message")]
        code, message = (match[1] if match else "" for match in found)
        raise invalid(
            f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"
        )

    def _signed(
        self, service: str, method: str, path: str, query: str = "", body: bytes = b""
    ) -> AwsRequest:
        """A request to another service here, which reads its name from the credential scope."""
        headers = {
            "host": self._url.removeprefix("http://"),
            "content-type": "application/x-www-form-urlencoded" if body else "text/plain",
            "authorization": "AWS4-HMAC-SHA256 Credential=local/20000101/"
            f"{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0",
        }
        return AwsRequest(method, path, query, headers, body, service)

    def location(self, digest: str) -> str:
        """The address of an archive on the endpoint."""
        return f"{self._url}/2015-03-31/code/{digest}.zip"

    def packed_layer(self, arn: str) -> tuple[str, int]:
        """The digest and size of a template's layer as an archive."""
        layers = self.declared.layers if self.declared is not None else ()
        found = next((layer for layer in layers if layer.arn == arn), None)
        folder = found and (found.folder or found.sources)
        return self._code.packed(folder) if folder and folder.is_dir() else ("", 0)

    async def archive(self, digest: str) -> AwsResponse:
        """The response to a GET of ``location``."""
        found = await asyncio.to_thread(self._code.archive, digest)
        if found is None:
            return AwsResponse(404, b"")
        return AwsResponse(200, found, {"content-type": "application/zip"})

    async def _code_about(self, name: str, document: Document) -> tuple[str, int]:
        """The digest of a function's code as digits, and its size."""
        code = document.get("Code")
        if code is None:
            spec = self._spec(name)
            if spec is None or spec.unrunnable or not spec.code_dir.is_dir():
                return "", 0
            return await asyncio.to_thread(self._code.packed, spec.code_dir)
        return code["Sha256"], code["Size"]

    async def _digest(self, name: str, document: Document) -> str:
        digest, _ = await self._code_about(name, document)
        return base64.b64encode(bytes.fromhex(digest)).decode()

    def _spec(self, name: str) -> Any:
        functions = self.declared.functions if self.declared is not None else ()
        return next((spec for spec in functions if spec.name == name), None)

    # Checks.

    def _check_revision(self, name: str, document: Document, params: Members) -> None:
        current = self._revision(name, document)
        if params.get("RevisionId", current) != current:
            raise stale("GetFunction/GetAlias")

    def _revision(self, key: str, document: Document) -> str:
        """The revision; it changes once more when a change is complete."""
        found = self._functions.revision(key, document)
        if "Change" not in document or self._is_pending(document):
            return found
        if self._changes.get("revision", key) is not None:
            return found
        return str(uuid.uuid5(uuid.NAMESPACE_URL, found))

    def _is_pending(self, document: Document) -> bool:
        """True while the last change is under way."""
        return bool(self._clock.time() < document.get("Ready", 0.0))

    def _changeable(self, name: str) -> Document:
        """The function, which must not have a change under way."""
        document = self._functions.latest(name)
        if self._is_pending(document):
            raise conflict(
                "The operation cannot be performed at this time. An update is in progress for "
                f"resource: {function_arn(name)}"
            )
        return document

    def _put_function(self, name: str, document: Document) -> None:
        self._changes.put("function", name, document)
        self._changes.delete("revision", name)

    async def _complete_vpc(self, properties: Document) -> None:
        """Put the VPC of the subnets into the configuration."""
        config = properties.get("VpcConfig") or {}
        if not config.get("SubnetIds"):
            return
        text = await self._described("Subnet", "InvalidSubnetID.NotFound", config["SubnetIds"])
        groups = config.get("SecurityGroupIds") or []
        await self._described("SecurityGroup", "InvalidGroup.NotFound", groups)
        found = re.search(r"<vpcId>(.*?)</vpcId>", text)
        properties["VpcConfig"] = {**config, "VpcId": found[1] if found else ""}

    async def _described(self, what: str, code: str, ids: list[str]) -> str:
        """EC2's answer about its resources, of which each must exist."""
        answer = ""
        noun, key = ("subnet ID", "SubnetId") if what == "Subnet" else ("security group", "GroupId")
        for identity in ids:
            body = f"Action=Describe{what}s&Version=2016-11-15&{key}.1={quote(identity)}"
            request = self._signed("ec2", "POST", "/", body=body.encode())
            response = await self._aws(request)
            answer = response.body.decode("utf-8", "replace")
            if response.status != 200:
                raise invalid(
                    f"Error occurred while Describe{what}s. EC2 Error Code: {code}. EC2 Error "
                    f"Message: The {noun} '{identity}' does not exist"
                )
        return answer

    def _check_layers(self, properties: Mapping[str, Any]) -> None:
        layers = properties.get("Layers") or ()
        if len(layers) > _LAYERS_LIMIT:
            raise invalid(f"Cannot reference more than {_LAYERS_LIMIT} layers.")
        known: dict[str, str] = {}
        for arn in layers:
            layer = str(arn).rpartition(":")[0]
            region, account = layer.split(":")[3:5]
            if region not in {REGION, ""}:
                raise invalid(
                    "Layers are not in the same region as the function. Layers are expected to be "
                    f"in region {REGION}."
                )
            # Nobody here knows the layers of other accounts.
            mine = account == ACCOUNT
            if mine and self._changes.get("layer", arn.partition(":layer:")[2]) is None:
                raise invalid(f"Layer version {arn} does not exist.")
            if layer in known:
                raise invalid(
                    "Two different versions of the same layer are not allowed to be referenced in "
                    f"the same function. {known[layer]} and {arn} are versions of the same layer."
                )
            known[layer] = arn

    # Answers.

    def _document(self, properties: Document, code: Document | None, change: str = "") -> Document:
        document = {
            "Properties": properties, "RevisionId": str(uuid.uuid4()),
            "LastModified": self._clock.time(), **({"Code": code} if code is not None else {}),
        }  # fmt: skip
        if change:
            document |= {"Change": change, "Ready": self._clock.time() + CHANGE_S}
        return document

    async def _describe(self, name: str, number: str, target: Target | None = None) -> Members:
        _, document = self._functions.version(Target(name, number))
        qualifier = target.qualifier if target else ""
        return await self._describe_document(name, number, document, qualifier)

    async def _describe_document(
        self, name: str, number: str, document: Document, qualifier: str = ""
    ) -> Members:
        """A ``FunctionConfiguration``:
        https://docs.aws.amazon.com/lambda/latest/api/API_FunctionConfiguration.html
        """
        properties = document["Properties"]
        digest, size = await self._code_about(name, document)
        shown: Members = {
            "FunctionName": name,
            "FunctionArn": Target(name, qualifier).arn,
            "Role": properties.get("Role") or "arn:aws:iam::123456789012:role/local",
            "CodeSize": size,
            "CodeSha256": base64.b64encode(bytes.fromhex(digest)).decode(),
            "Description": properties.get("Description", ""),
            "Timeout": int(properties.get("Timeout") or 3),
            "MemorySize": int(properties.get("MemorySize") or 128),
            "LastModified": iso(document.get("LastModified", self.began)),
            "Version": number,
            "RevisionId": self._revision(
                name if number == LATEST else f"{name}:{number}", document
            ),
            "TracingConfig": properties.get("TracingConfig") or {"Mode": "PassThrough"},
            "PackageType": properties.get("PackageType", "Zip"),
            "Architectures": properties.get("Architectures") or ["x86_64"],
            "EphemeralStorage": properties.get("EphemeralStorage") or {"Size": 512},
            "SnapStart": _snap_start(properties, number),
            "LoggingConfig": _logging(name, properties.get("LoggingConfig") or {}),
            **self._state(document),
        }
        if shown["PackageType"] == "Zip":
            shown |= {key: properties[key] for key in ("Runtime", "Handler") if key in properties}
            runtime = uuid.uuid5(uuid.NAMESPACE_URL, str(properties.get("Runtime"))).hex * 2
            arn = f"arn:aws:lambda:{REGION}::runtime:{runtime}"
            shown["RuntimeVersionConfig"] = {"RuntimeVersionArn": arn}
        for key in ("KMSKeyArn", "FileSystemConfigs", "TenancyConfig", "DurableConfig"):
            if properties.get(key):
                shown[key] = properties[key]
        if "Environment" in properties:
            shown["Environment"] = {
                "Variables": dict((properties["Environment"] or {}).get("Variables") or {})
            }
        if (properties.get("DeadLetterConfig") or {}).get("TargetArn"):
            shown["DeadLetterConfig"] = properties["DeadLetterConfig"]
        if vpc := properties.get("VpcConfig"):
            shown["VpcConfig"] = {
                "SubnetIds": vpc.get("SubnetIds", []),
                "SecurityGroupIds": vpc.get("SecurityGroupIds", []),
                "VpcId": vpc.get("VpcId", ""),
                "Ipv6AllowedForDualStack": vpc.get("Ipv6AllowedForDualStack", False),
            }
        if layers := properties.get("Layers"):
            shown["Layers"] = [{"Arn": arn, "CodeSize": self._layer_size(arn)} for arn in layers]
        return shown

    def _state(self, document: Document) -> Members:
        """https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html"""
        if not self._is_pending(document):
            return {"State": "Active", "LastUpdateStatus": "Successful"}
        why = {"Reason": "The function is being created.", "ReasonCode": "Creating"}
        if document["Change"] == _CREATING:
            return {"State": "Pending", **{f"State{key}": text for key, text in why.items()}}
        return {
            "State": "Active", "LastUpdateStatus": "InProgress",
            **{f"LastUpdateStatus{key}": text for key, text in why.items()},
        }  # fmt: skip

    def _layer_size(self, arn: str) -> int:
        document = self._changes.get("layer", str(arn).partition(":layer:")[2]) or {}
        return int(document.get("Size", 0))


def _snap_start(properties: Mapping[str, Any], number: str) -> Members:
    applied = (properties.get("SnapStart") or {}).get("ApplyOn", "None")
    on = applied == "PublishedVersions" and number != LATEST
    return {"ApplyOn": applied, "OptimizationStatus": "On" if on else "Off"}


def _logging(name: str, config: Mapping[str, Any]) -> Members:
    """https://docs.aws.amazon.com/lambda/latest/api/API_LoggingConfig.html"""
    shown = {
        "LogFormat": config.get("LogFormat", "Text"),
        "LogGroup": config.get("LogGroup", f"/aws/lambda/{name}"),
    }
    if shown["LogFormat"] == "JSON":
        for key in ("ApplicationLogLevel", "SystemLogLevel"):
            shown[key] = config.get(key, "INFO")
    return shown


def _versions_of(alias: Document) -> Iterable[str]:
    more = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    return (alias["FunctionVersion"], *more)


def _check(properties: Mapping[str, Any]) -> None:
    """Refuse what the service refuses beyond its model."""
    if (properties.get("SnapStart") or {}).get("ApplyOn") == "PublishedVersions":
        check_tenancy(properties, "SnapStart")
    image = properties.get("PackageType", "Zip") == "Image"
    runtime = str(properties.get("Runtime", ""))
    if not image and not ("Runtime" in properties and "Handler" in properties):
        raise invalid(
            "Runtime and Handler are mandatory parameters for functions created with deployment "
            "packages."
        )
    if not image and _OLD.fullmatch(runtime):
        raise invalid(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating "
            "AWS Lambda functions. We recommend you use a supported runtime while creating or "
            "updating functions."
        )
    if not image and runtime not in RUNTIMES:
        raise invalid(
            f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum "
            f"value set: [{', '.join(RUNTIMES)}] or be a valid ARN"
        )
    if int(properties.get("Timeout") or 0) > _TIMEOUT_LIMIT:
        # The model has the limit of durable executions.
        raise RefusedError(
            400, "ValidationException",
            f"1 validation error detected: Value '{properties['Timeout']}' at 'timeout' failed to "
            f"satisfy constraint: Member must have value less than or equal to {_TIMEOUT_LIMIT}",
        )  # fmt: skip
    variables = (properties.get("Environment") or {}).get("Variables") or {}
    if reserved := sorted(_RESERVED & variables.keys()):
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment "
            "variables you have provided contains reserved keys that are currently not supported "
            f"for modification. Reserved keys used in this request: {', '.join(reserved)}"
        )
    measured = json.dumps(variables, separators=(",", ":"), ensure_ascii=False)
    if len(measured.encode()) > _ENVIRONMENT_LIMIT:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment "
            f"variables you have provided exceeded the 4KB limit. String measured: {measured}"
        )
