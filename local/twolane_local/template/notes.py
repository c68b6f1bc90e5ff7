"""Notes about resources that are not emulated, or that behave differently here than on AWS."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twolane_local.template.yaml import TemplateFile


class Notes:
    """Collects ``lines``; each names the file, the line and the resource."""

    def __init__(self, source: TemplateFile) -> None:
        self._source = source
        self.lines: list[str] = []

    def not_emulated(self, logical_id: str, why: str) -> None:
        self.lines.append(f"{self._source.where(logical_id)}: {logical_id} is not emulated: {why}")

    def cannot_run(self, logical_id: str, why: str) -> None:
        where = self._source.where(logical_id)
        self.lines.append(f"{where}: {logical_id} cannot run here, its invocations fail: {why}")

    def remark(self, logical_id: str, text: str) -> None:
        self.lines.append(f"{self._source.where(logical_id)}: {logical_id}: {text}")
