"""Reads a CloudFormation template's YAML, with its short-form functions and its values' lines.

Short forms (``!Ref``, ``!GetAtt a.b`` …) become their long forms:
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html

``Notes`` are about resources that are not emulated, or that behave differently here than on AWS.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from yaml.composer import Composer

from twolane_local.errors import TemplateError

if TYPE_CHECKING:
    from pathlib import Path

    _Base = yaml.SafeLoader
else:
    _Base = object

#: A template may have 1 MB, without its comments, which are not sent to AWS.
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
MAX_CHARACTERS = 1 << 20
_MAX_WITH_COMMENTS = 4 * MAX_CHARACTERS
#: AWS documents no limit. Python reaches its recursion limit at a few hundred levels more.
MAX_LEVELS = 100

#: The functions with a short form; those in the last row are for Rules.
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference-rules.html
_SHORT_FORMS = frozenset(
    {
        "Ref", "Condition", "GetAtt", "Sub", "Join", "Split", "Select", "FindInMap", "Base64",
        "Cidr", "GetAZs", "ImportValue", "Transform", "ToJsonString", "Length", "ForEach",
        "If", "Equals", "And", "Or", "Not", "GetStackOutput",
        "Contains", "EachMemberEquals", "EachMemberIn", "RefAll", "ValueOf", "ValueOfAll",
    }
)  # fmt: skip
_YAML = "tag:yaml.org,2002:"
#: The values of these keys are names: `Yes` stays text here.
_NAMES = frozenset({"Condition", "Ref", "DependsOn"})
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-formats.html
_NOT_IN_JSON = ("binary", "omap", "pairs", "set", "timestamp")


class _RefusedError(yaml.YAMLError):
    """The YAML is valid, but not as a template."""

    def __init__(self, problem: str, node: yaml.Node | yaml.Event) -> None:
        super().__init__(problem)
        mark: Any = node.start_mark
        self.problem, self.line = problem, mark.line + 1


class _CloudFormation(_Base):
    """Adds CloudFormation's tags to a YAML loader, and refuses values that JSON does not have."""

    _levels = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._levels += 1
        if self._levels > MAX_LEVELS:
            raise _too_deep(self.peek_event())  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        self._levels -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            self.flatten_mapping(node)
            for key, value in node.value:
                # Keys are text, as in JSON: an account's number, a status, `on`.
                _take_as_text(key)
                if key.tag == f"{_YAML}str" and key.value in _NAMES:
                    _take_as_text(value)
                elif key.value == "Fn::If" and isinstance(value, yaml.SequenceNode):
                    _take_as_text(*value.value[:1])
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        try:
            return super().construct_yaml_int(node)
        except ValueError as error:
            raise _RefusedError(f"{node.value[:20]!r} is not a number; quote it", node) from error

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        try:
            number = super().construct_yaml_float(node)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise _RefusedError(f"{node.value} is not a number in JSON; quote it", node)
        return number


def _take_as_text(*nodes: yaml.Node) -> None:
    for node in nodes:
        if isinstance(node, yaml.ScalarNode) and node.tag.startswith(_YAML):
            node.tag = f"{_YAML}str"


def _intrinsic(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if suffix not in _SHORT_FORMS:
        raise _RefusedError(f"CloudFormation has no tag !{suffix}", node)
    value: Any = None
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        if suffix == "If":
            _take_as_text(*node.value[:1])
        value = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


def _not_in_json(_: yaml.SafeLoader, node: yaml.Node) -> None:
    kind = node.tag.removeprefix(_YAML)
    raise _RefusedError(f"CloudFormation does not take YAML's !!{kind}", node)


class _Loader(_CloudFormation, yaml.SafeLoader):
    """Uses PyYAML's own parser, whose error messages we pass on."""


_LOADERS: list[Any] = [_Loader]
if yaml.__with_libyaml__:
    from yaml.cyaml import CSafeLoader

    class _FastLoader(_CloudFormation, Composer, CSafeLoader):
        """Uses libyaml's parser, which takes a third of the time."""

        def __init__(self, stream: str) -> None:
            CSafeLoader.__init__(self, stream)
            Composer.__init__(self)

    _LOADERS.insert(0, _FastLoader)

for _each in _LOADERS:
    # YAML 1.1 reads `AWSTemplateFormatVersion: 2010-09-09` as a date; AWS does not.
    _each.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in pairs if tag != f"{_YAML}timestamp"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _each.add_multi_constructor("!", _intrinsic)
    _each.add_constructor(f"{_YAML}int", _each.construct_yaml_int)
    _each.add_constructor(f"{_YAML}float", _each.construct_yaml_float)
    for _kind in _NOT_IN_JSON:
        _each.add_constructor(f"{_YAML}{_kind}", _not_in_json)


def _content(text: str) -> tuple[yaml.Node | None, Any]:
    for fast in _LOADERS[:-1]:
        with suppress(yaml.YAMLError):  # the other parser has better error messages
            return _read_by(fast, text)
    return _read_by(_LOADERS[-1], text)


def _read_by(loader_class: Any, text: str) -> tuple[yaml.Node | None, Any]:
    loader = loader_class(text)
    node = loader.get_single_node()
    if node is None:
        return None, None
    _check_aliases(node)
    return node, loader.construct_document(node)


def _too_deep(node: yaml.Node | yaml.Event) -> _RefusedError:
    return _RefusedError(f"it is nested more than {MAX_LEVELS} levels deep", node)


def _check_aliases(root: yaml.Node) -> None:
    """Refuse a document that is endless, too large or too deep once its aliases are replaced."""
    measured: dict[int, tuple[int, int]] = {}
    open_: set[int] = set()

    def measure(node: yaml.Node) -> tuple[int, int]:
        """Return characters and levels. An alias is known already: its anchor comes first."""
        known = measured.get(id(node))
        if known is not None:
            return known
        if id(node) in open_:
            raise _RefusedError("this anchor contains itself; write it out", node)
        open_.add(id(node))
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        size, levels = len(node.value) if isinstance(node, yaml.ScalarNode) else 1, 1
        for each in children:
            inner, below = measure(each)
            size, levels = size + inner + 1, max(levels, below + 1)
        if levels > MAX_LEVELS:
            raise _too_deep(node)
        if size > MAX_CHARACTERS:
            raise _RefusedError("with its aliases replaced, it is larger than AWS's 1 MB", node)
        open_.discard(id(node))
        measured[id(node)] = (size, levels)
        return size, levels

    measure(root)


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """A template as written: its content, and the lines of its values."""

    path: Path
    content: dict[str, Any]
    node: yaml.MappingNode

    def where(self, logical_id: str, *fields: str) -> str:
        """Return ``template.yaml:12`` for the deepest written field of the resource, or of the one
        whose name is its prefix if SAM or a nested stack generates it, else the path alone.
        """
        written = self.content["Resources"]
        if logical_id not in written:
            logical_id = max(filter(logical_id.startswith, written), key=len, default="")
        return self.at("Resources", logical_id, *fields) if logical_id else str(self.path)

    def at(self, *keys: str) -> str:
        """Return ``template.yaml:12`` for the deepest of these keys that is written."""
        node: Any = self.node
        line = 0
        for key in keys:
            pairs = node.value if isinstance(node, yaml.MappingNode) else ()
            found = [pair for pair in pairs if pair[0].value == key]
            if not found:
                break
            line, node = found[-1][0].start_mark.line + 1, found[-1][1]
        return f"{self.path}:{line}" if line else str(self.path)


def read_template(path: Path) -> TemplateFile:
    """Parse the file. Raises ``TemplateError`` with the file, the line and a remedy."""
    node, content = _parse(path, "run this where template.yaml is, or name it with --template")
    if (
        not isinstance(node, yaml.MappingNode)
        or not isinstance(content, dict)
        or not isinstance(content.get("Resources"), dict)
    ):
        raise TemplateError(f"{path} has no Resources; twolane needs a SAM template")
    return TemplateFile(path, content, node)


def read_fragment(path: Path) -> Any:
    """Parse a file that a template includes. Raises ``TemplateError``."""
    return _parse(path, "the template includes it")[1]


def _parse(path: Path, unreadable: str) -> tuple[yaml.Node | None, Any]:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise TemplateError(f"{path} cannot be read ({error.strerror}); {unreadable}") from error
    except UnicodeDecodeError as error:
        raise TemplateError(f"{path} is not UTF-8 ({error.reason} at {error.start})") from error
    except ValueError as error:  # a NUL in its name
        raise TemplateError(f"{str(path)!r} is not a file name ({error}); {unreadable}") from error
    if len(text) > _MAX_WITH_COMMENTS:
        raise TemplateError(f"{path} is larger than the 1 MB that AWS takes; use nested stacks")
    try:
        node, content = _content(text)
    except _RefusedError as error:
        raise TemplateError(f"{path}:{error.line}: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise TemplateError(
            f"{path}:{line} is not valid YAML: {error.reason} (#x{error.character:04x})"
        ) from error
    except yaml.YAMLError as error:
        mark: yaml.Mark | None = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise TemplateError(f"{path}{where} is not valid YAML: {problem}") from error
    return node, content


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
