"""A CloudFormation template's YAML, with its short-form intrinsics and the lines of its resources.

Short forms (``!Ref``, ``!GetAtt a.b`` …) become their long forms:
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from twolane_local.errors import TemplateError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class _Loader(yaml.SafeLoader):
    """SafeLoader which knows CloudFormation's tags and leaves dates as the text they are."""


# YAML 1.1 would turn `AWSTemplateFormatVersion: 2010-09-09` into a date; CloudFormation does not.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _intrinsic(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any = None
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _intrinsic)


@dataclass(frozen=True, slots=True)
class Source:
    """A template as written: its content, and the line on which each resource stands."""

    path: Path
    content: dict[str, Any]
    lines: Mapping[str, int]

    def where(self, logical_id: str) -> str:
        """``template.yaml:12`` for a resource, the path alone where it is not in the text."""
        line = self.lines.get(logical_id)
        return f"{self.path}:{line}" if line else str(self.path)


def read(path: Path) -> Source:
    """Parse the file; raises ``TemplateError`` which names file, line and remedy."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise TemplateError(
            f"{path} cannot be read ({error.strerror}); run this where template.yaml is, "
            "or name it with --template"
        ) from error
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        content = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise TemplateError(f"{path}{line} is not valid YAML: {problem}") from error
    if not isinstance(content, dict) or not isinstance(content.get("Resources"), dict):
        raise TemplateError(f"{path} has no Resources; twolane needs a SAM template")
    return Source(path, content, _lines(node))


def _lines(node: Any) -> dict[str, int]:
    for key, value in node.value:
        if key.value == "Resources":
            return {name.value: name.start_mark.line + 1 for name, _ in value.value}
    return {}
