"""Functions stand only where CloudFormation takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.lint.findings import Found, Rule, Severity
from twolane_local.lint.subject import listed, mapping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.lint.subject import Subject

_PAGE = (
    "https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/"
    "intrinsic-function-reference-rules.html"
)
#: All that a rule's condition and assertions may be made of, by that page.
_OF_RULES = frozenset(
    {
        "Ref", "Fn::And", "Fn::Contains", "Fn::EachMemberEquals", "Fn::EachMemberIn", "Fn::Equals",
        "Fn::Not", "Fn::Or", "Fn::RefAll", "Fn::ValueOf", "Fn::ValueOfAll",
    }
)  # fmt: skip
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/transform-aws-languageextensions.html
_EXTENSIONS = "AWS::LanguageExtensions"
_POLICIES = ("DeletionPolicy", "UpdateReplacePolicy")


def check(subject: Subject) -> Iterator[Found]:
    yield from _rules(subject)
    if _EXTENSIONS not in listed(subject.text.get("Transform")):
        yield from _policies(subject)


def _rules(subject: Subject) -> Iterator[Found]:
    for name, rule in mapping(subject.text.get("Rules")).items():
        parts: list[tuple[tuple[str | int, ...], Any]] = [
            (("RuleCondition",), mapping(rule).get("RuleCondition"))
        ]
        parts += [
            (("Assertions", index), mapping(each).get("Assert"))
            for index, each in enumerate(listed(mapping(rule).get("Assertions")))
        ]
        for path, value in parts:
            for function in sorted(_functions(value) - _OF_RULES):
                yield Found(
                    str(name),
                    f"the rule {name} uses {function}: CloudFormation refuses the change set, "
                    "since Rules take Ref and their own functions only",
                    "compare the parameter as a whole, or make it one that can be (a String "
                    "instead of a list, with an AllowedPattern)",
                    ("Rules", str(name), *path),
                )


def _policies(subject: Subject) -> Iterator[Found]:
    for name, resource in mapping(subject.text.get("Resources")).items():
        for policy in _POLICIES:
            if isinstance(resource.get(policy), dict):
                yield Found(
                    str(name),
                    f"{name}'s {policy} is a function: CloudFormation takes plain text there, "
                    f"unless the template has the transform {_EXTENSIONS}",
                    f"write the policy out, or put {_EXTENSIONS} before the template's other "
                    "transforms",
                )


def _functions(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_functions, value))
    if not isinstance(value, dict):
        return set()
    own = {name for name in value if name == "Ref" or str(name).startswith("Fn::")}
    return own | _functions(list(value.values()))


RULE = Rule(
    "TL230",
    "section-functions",
    Severity.ERROR,
    "Rules use no functions but Ref and their own; a deletion policy uses none without "
    "AWS::LanguageExtensions.",
    _PAGE,
    check,
)
