"""The layers of an expanded template: what is in ``/opt`` for a function.

https://docs.aws.amazon.com/lambda/latest/dg/packaging-layers.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template import LOCAL_BUCKET, code_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from twolane_local.stack.names import Names
    from twolane_local.stack.packages import Packages
    from twolane_local.template import Template

_TYPE = "AWS::Lambda::LayerVersion"


@dataclass(frozen=True, slots=True)
class Layer:
    """Either ``folder`` plays ``/opt``, or ``sources`` is what a build puts into ``/opt/python``.

    ``archive`` is the file that the folder was made of.
    """

    folder: Path | None = None
    sources: Path | None = None
    archive: Path | None = None


class Layers:
    """By ARN; ``remark(logical_id, what)`` hears once of each that is not here."""

    def __init__(
        self,
        template: Template,
        names: Names,
        packages: Packages,
        remark: Callable[[str, str], None],
    ) -> None:
        self._template = template
        self._packages = packages
        self._remark = remark
        self._root = template.source.path.resolve().parent
        self._found: dict[str, Layer] = {}
        self._elsewhere: set[str] = set()
        for logical_id, resource in template.resources.items():
            if resource["Type"] == _TYPE:
                layer = self._read(logical_id, resource, names)
                if layer is not None:
                    self._found[str(names.ref(logical_id))] = layer

    def of(self, logical_id: str, arns: Sequence[Any]) -> list[Layer]:
        """Those of a function that are here, in the template's order."""
        found: list[Layer] = []
        for arn in map(str, arns):
            if arn in self._found:
                found.append(self._found[arn])
            elif arn not in self._elsewhere:
                self._elsewhere.add(arn)
                self._remark(
                    logical_id, f"its layer {arn} is not there: what it holds is found only where "
                    "it is installed beside twolane",
                )  # fmt: skip
        return found

    def _read(self, logical_id: str, resource: Mapping[str, Any], names: Names) -> Layer | None:
        content = code_of(names.resolve((resource.get("Properties") or {}).get("Content") or {}))
        if content.get("S3Bucket") != LOCAL_BUCKET:
            return None  # said where a function uses it
        path = (self._root / str(content["S3Key"])).resolve()
        where = self._template.source.where(logical_id)
        if path.is_file():
            try:
                return Layer(folder=self._packages.unpacked(logical_id, path), archive=path)
            except TemplateError as error:
                raise TemplateError(f"{where}: {logical_id}'s content {path} {error}") from error
        if not path.exists():
            self._remark(logical_id, f"there is no {path}")
        # https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/building-layers.html
        method = (resource.get("Metadata") or {}).get("BuildMethod")
        method = str(content.get("S3ObjectVersion") or method or "")
        if not method:
            return Layer(folder=path)
        if not method.startswith("python"):
            self._remark(logical_id, f"its BuildMethod {method!r} is not run; its folder is used")
            return Layer(folder=path)
        return Layer(sources=path)
