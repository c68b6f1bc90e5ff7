"""A template can be deployed a second time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.lint.findings import Found, Rule, Severity
from twolane_local.lint.physical_names import ONCE_HOWEVER_NAMED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.lint.subject import Subject


_FIXES = {
    "AWS::SES::EmailIdentity": "make it by a condition, so that one stack of the account has it",
    # SAM gives the schedule of a function's event the event's name.
    "AWS::Scheduler::Schedule": (
        "give it a Name with ${AWS::StackName} in it, or a GroupName that is the stack's own"
    ),
}


def check(subject: Subject) -> Iterator[Found]:
    for logical_id, name in subject.given_names.items():
        once = name.kind in ONCE_HOWEVER_NAMED
        if name.rules.unique_in is None or (name.depends and not once):
            continue
        yield Found(
            logical_id,
            f"{logical_id}'s {name.rules.name_property} is the same in every stack, and must be "
            f"the only one of its {name.rules.unique_in}: a second stack of this template cannot "
            "be made",
            _FIXES.get(name.kind)
            or f"leave {name.rules.name_property} out, or put ${{AWS::StackName}} in it",
            (name.rules.name_property,),
        )


RULE = Rule(
    "TL232",
    "unique-name",
    Severity.NOTE,
    "No resource has a name that a second stack of the template would need, too.",
    "https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-name.html",
    check,
)
