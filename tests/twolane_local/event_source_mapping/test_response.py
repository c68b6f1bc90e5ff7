"""Each form of https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html"""

from __future__ import annotations

import pytest

from twolane_local.aws.event_source_mapping import batch_item_failures

IDS = frozenset({"a", "b", "c"})


@pytest.mark.parametrize(
    "payload",
    [
        b'{"batchItemFailures":[]}',
        b'{"batchItemFailures":null}',
        b"{}",
        b"null",
        b"",
    ],
)
def test_complete_success(payload):
    outcome = batch_item_failures(payload, IDS)
    assert (outcome.failed, outcome.reason) == (frozenset(), None)


@pytest.mark.parametrize(
    "payload",
    [
        b"{not json",
        b'{"batchItemFailures":[{"itemIdentifier":""}]}',
        b'{"batchItemFailures":[{"itemIdentifier":null}]}',
        b'{"batchItemFailures":[{"identifier":"a"}]}',
        b'{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"nowhere"}]}',
        # Not on the page; what cannot be read must not lose a message.
        b'{"batchItemFailures":[{"itemIdentifier":1}]}',
        b'{"batchItemFailures":["a"]}',
        b'{"batchItemFailures":"a"}',
        b'"done"',
        b"[]",
    ],
)
def test_complete_failure(payload):
    outcome = batch_item_failures(payload, IDS)
    assert outcome.failed == IDS
    assert outcome.reason


def test_partial_failure():
    payload = b'{"batchItemFailures":[{"itemIdentifier":"b"},{"itemIdentifier":"b"}],"more":1}'
    outcome = batch_item_failures(payload, IDS)
    assert (outcome.failed, outcome.reason) == (frozenset({"b"}), None)
