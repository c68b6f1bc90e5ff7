"""A name that has the stack's in it leaves room for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.lint.findings import Found, Rule, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.lint.subject import Subject

#: A stack's own limit, and what is short enough to be worth a word.
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html
_LONGEST_STACK, _SHORT = 128, 40


def check(subject: Subject) -> Iterator[Found]:
    for logical_id, name in subject.given_names.items():
        if not name.times or name.fixed is None:
            continue
        room = min((name.rules.longest - name.fixed) // name.times, _LONGEST_STACK)
        stack = len(subject.stack_name or "")
        if room >= max(_SHORT, stack):
            continue
        what = f"{logical_id}'s {name.rules.name_property} may have {name.rules.longest} characters"
        takes = f"{name.fixed} beside the stack's name"
        if room < max(1, stack):
            severity = Severity.ERROR
            so = (
                f"no stack can be made: {takes} are too many"
                if room < 1
                else f"{takes} leave {room}; samconfig.toml has {subject.stack_name!r}, {stack}"
            )
        else:
            severity = Severity.NOTE
            so = f"{takes} leave {room}: a stack with a longer name cannot be made"
        yield Found(
            logical_id,
            f"{what}; {so}",
            f"shorten it, or leave {name.rules.name_property} out: CloudFormation then makes one "
            "that fits",
            (name.rules.name_property,),
            severity,
        )


RULE = Rule(
    "TL231",
    "name-length",
    Severity.ERROR,
    "A name that is made of the stack's leaves room for a stack's name of at least 40 characters.",
    "https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-name.html",
    check,
)
