"""https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html"""

from __future__ import annotations

import json
from typing import Any

import pytest

from twolane_local.aws.events.notifications import MatchedRule, event, target_input

RULE = MatchedRule("r", "arn:aws:events:us-east-1:123456789012:rule/r", "2026-01-01T00:00:01Z")
EVENT = event(
    identity="1",
    source="aws.ec2",
    detail_type="State change",
    detail={
        "instance-id": "i-0123",
        "state": "RUNNING",
        "said": 'a "b" \\ c',
        "count": 2,
        "on": True,
        "nothing": None,
        "tags": ["a", "b"],
        "disks": [{"id": "d1", "parts": [1]}, {"id": "d2"}],
    },
    time="2026-01-01T00:00:00Z",
    resources=["arn:x"],
)


def test_every_field_of_the_envelope() -> None:
    assert json.loads(target_input({}, EVENT, RULE)) == EVENT
    assert EVENT["account"] == "123456789012"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", EVENT),
        ("$.detail.state", "RUNNING"),
        ("$.detail.instance-id", "i-0123"),
        ("$.detail-type", "State change"),
        ("$.resources[0]", "arn:x"),
        ("$.resources[1]", {}),
        ("$.detail.disks[1].id", "d2"),
        ("$.detail.disks[*].id", ["d1", "d2"]),
        ("$.detail.disks[*].parts", [[1]]),
        ("$.detail.disks[0].*", ["d1", [1]]),
        ("$.detail.none[*].id", []),
        ("$.detail.state.deeper", {}),
        ("$.detail.nothing", None),
    ],
)
def test_input_path(path: str, found: Any) -> None:
    assert json.loads(target_input({"InputPath": path}, EVENT, RULE)) == found


PATHS = {
    "instance": "$.detail.instance-id",
    "state": "$.detail.state",
    "said": "$.detail.said",
    "count": "$.detail.count",
    "on": "$.detail.on",
    "tags": "$.detail.tags",
    "disk": "$.detail.disks[0]",
    "missing": "$.detail.missing",
}


@pytest.mark.parametrize(
    ("template", "sent"),
    [
        ('"<instance> is in state <state>"', '"i-0123 is in state RUNNING"'),
        ('"line <count>"\n"line <on>"', '"line 2"\n"line true"'),
        (r'{"a": <instance>, "b": "is \"<state>\""}', r'{"a": "i-0123", "b": "is \"RUNNING\""}'),
        ('{"said": <said>}', r'{"said": "a \"b\" \\ c"}'),
        ('{"said": "he: <said>"}', r'{"said": "he: a \"b\" \\ c"}'),
        ('{"n": <count>, "t": <tags>}', '{"n": 2, "t": ["a", "b"]}'),
        ('{"d": <disk>, "text": "<disk>"}', ('{"d": {"id": "d1", "parts": [1]}, "text": "{id: d1, '
         'parts: [1]}"}')),
        ('{"none": <missing>, "text": "<missing>."}', '{"none": "", "text": "."}'),
        (('{"by": <aws.events.rule-name>, "arn": "<aws.events.rule-arn>", '
         '"at": <aws.events.event.ingestion-time>}'),
         ('{"by": "r", "arn": "arn:aws:events:us-east-1:123456789012:rule/r", '
         '"at": "2026-01-01T00:00:01Z"}')),
    ],
)  # fmt: skip
def test_input_transformer(template: str, sent: str) -> None:
    transformer = {"InputPathsMap": PATHS, "InputTemplate": template}
    assert target_input({"InputTransformer": transformer}, EVENT, RULE) == sent


def test_the_whole_event_in_a_template() -> None:
    template = '{"all": <aws.events.event.json>, "envelope": <aws.events.event>}'
    made = json.loads(target_input({"InputTransformer": {"InputTemplate": template}}, EVENT, RULE))
    assert made["all"] == EVENT
    assert made["envelope"] == {name: EVENT[name] for name in EVENT if name != "detail"}


def test_a_fixed_input_goes_as_it_is() -> None:
    assert target_input({"Input": '{"a":  1}', "InputPath": "$.x"}, EVENT, RULE) == '{"a":  1}'
