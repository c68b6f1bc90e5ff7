"""The count in the trace header, and Lambda's refusal before an invocation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from twolane_local.aws.invocation import RecursiveInvocationError
from twolane_local.aws.lambda_.functions import RecursionDetection
from twolane_local.clock.virtual import run_virtual
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec, lineage

if TYPE_CHECKING:
    from collections.abc import Sequence

A, B = (f"arn:aws:lambda:us-east-1:123456789012:function:{name}" for name in "ab")
ROOT = "Root=1-67891234-abcdef012345678912345678;Sampled=0"


def header(*arns: str, first: str = "") -> str:
    """The trace header after these invocations, one leading to the next."""
    found = first
    for arn in arns:
        found = f"{ROOT};{lineage.next_field([found], arn)}"
    return found


def test_each_function_of_a_chain_is_counted_for_itself() -> None:
    chain = header(A, B, A, B, A)
    assert (lineage.invocations(chain, A), lineage.invocations(chain, B)) == (3, 2)
    assert lineage.invocations("", A) == lineage.invocations(ROOT, A) == 0


def test_the_field_is_as_it_was_seen_on_aws() -> None:
    # https://github.com/aws/aws-xray-sdk-node/pull/651
    seen = "Root=1-665a0c0c-2420a39e4fca953752e2e9f4;Sampled=1;Lineage=061379e8:0|cbc84ad3:0"
    (ours,) = (
        lineage.next_field([seen], A).removeprefix("Lineage=061379e8:0|cbc84ad3:0|").split("|")
    )
    name, _, count = ours.partition(":")
    assert (len(name), count) == (8, "0")


@pytest.mark.parametrize("text", ["Lineage=", "Lineage=a:b:c", "Lineage=1:fc3b4ff1:0", ";;=", "x"])
def test_what_is_not_of_this_form_counts_nothing(text: str) -> None:
    assert lineage.invocations(text, A) == 0
    assert lineage.invocations(header(A, first=text), A) == 1


def test_a_batch_belongs_to_the_chain_that_was_there_least() -> None:
    long, short = header(*[A] * 12), header(A)
    assert lineage.invocations(lineage.next_field([long, short], A), A) == 2
    assert lineage.invocations(lineage.next_field([long, short, ""], A), A) == 1


def test_a_chain_of_many_functions_keeps_the_latest() -> None:
    chain = header(A, *(f"{B}{number}" for number in range(40)))
    assert chain.count("|") == 15
    assert lineage.invocations(chain, A) == 0


def test_the_rest_of_the_header_stays_where_the_lineage_goes() -> None:
    assert lineage.without_lineage(header(A)) == ROOT
    assert lineage.without_lineage(ROOT) == ROOT
    assert lineage.without_lineage("Lineage=a:1") == ""


def ask(headers: Sequence[str], *, template: str = "Terminate") -> Journal:
    """Have an invocation looked at; the journal, or what is raised."""
    found: list[Journal] = []

    async def main(clock):
        journal = Journal(clock)
        found.append(journal)
        spec = FunctionSpec("a", "A", "h", Path(), recursive_loop=template)
        RecursionDetection(journal).check(spec, headers, "r")

    run_virtual(main)
    return found[0]


def test_sixteen_invocations_and_not_one_more() -> None:
    assert list(ask([header(*[A] * 15)])) == []
    with pytest.raises(RecursiveInvocationError) as raised:
        ask([header(*[A] * 16), header(A)])
    assert raised.value.headers == {header(*[A] * 16)}


def test_allow_lets_it_go_on() -> None:
    ask([header(*[A] * 40)], template="Allow")
