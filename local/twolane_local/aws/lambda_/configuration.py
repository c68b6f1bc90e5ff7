"""The configuration of a function: from its properties to what runs.

CloudFormation and the Lambda API write the same properties:
https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-lambda-function.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.model import FunctionSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from twolane_local.model import LayerSpec


def why_unrunnable(properties: Mapping[str, Any]) -> str:
    """The reason why this machine runs no function of these properties, empty if it does."""
    if properties.get("PackageType") == "Image":
        return "it is a container image, which is not run"
    runtime = str(properties.get("Runtime", ""))
    if not runtime.startswith(("python", "provided")):
        return f"runtime {runtime or 'missing'!r} is neither Python nor OS-only"
    return ""


def specification(
    name: str,
    properties: Mapping[str, Any],
    code_dir: Path,
    layers: Iterable[LayerSpec] = (),
    *,
    logical_id: str = "",
) -> FunctionSpec:
    """The function of these properties, without what other resources say about it."""
    found = list(layers)
    reserved = properties.get("ReservedConcurrentExecutions")
    variables = (properties.get("Environment") or {}).get("Variables") or {}
    # https://docs.aws.amazon.com/lambda/latest/api/API_LoggingConfig.html
    logging = properties.get("LoggingConfig") or {}
    return FunctionSpec(
        name=name,
        logical_id=logical_id or name,
        handler=str(properties.get("Handler", "bootstrap")),
        code_dir=code_dir,
        runtime=str(properties.get("Runtime", "")),
        timeout_s=float(properties.get("Timeout", 3)),
        memory_mb=int(properties.get("MemorySize", 128)),
        environment=dict(variables),
        layer_dirs=tuple(each.folder for each in found if each.folder),
        layer_sources=tuple(each.sources for each in found if each.sources),
        archives=tuple(each.archive for each in found if each.archive),
        reserved_concurrency=None if reserved is None else int(reserved),
        log_format=str(logging.get("LogFormat") or "Text"),
        application_log_level=str(logging.get("ApplicationLogLevel") or ""),
        system_log_level=str(logging.get("SystemLogLevel") or ""),
        log_group=str(logging.get("LogGroup") or ""),
        recursive_loop=str(properties.get("RecursiveLoop", "Terminate")),
        tenant_isolation=bool(properties.get("TenancyConfig")),
        dead_letter_arn=(properties.get("DeadLetterConfig") or {}).get("TargetArn"),
        properties=properties,
    )
