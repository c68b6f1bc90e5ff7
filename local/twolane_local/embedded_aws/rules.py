"""What moto's event buses match goes to the emulator's queues, functions and topics.

Patterns are matched, and events made, by our own code: moto knows half of the operators, leaves
fields of the envelope out, and raises where a target is none of its own. Runs in moto's process.
"""

from __future__ import annotations

import copy
import functools
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twolane_local.embedded_aws import topics
from twolane_local.embedded_aws.emulator import say
from twolane_local.events import eventbridge
from twolane_local.invoke import service_of
from twolane_local.mapping.patterns import PatternError, compile_pattern
from twolane_local.template.values import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.embedded_aws.emulator import Emulator

#: Python's own errors; what moto refuses as AWS does has a class of its own.
FAULTS = (LookupError, AttributeError, TypeError, ValueError, NotImplementedError, AssertionError)


def play(emulator: Emulator) -> None:
    """Replace moto's deliveries; once, before it serves."""
    from moto.events.exceptions import InvalidEventPatternException
    from moto.events.models import EventPatternParser, Rule

    original = Rule.send_to_targets

    def send_to_targets(self: Any, original_event: Any, transform_input: bool = True) -> None:
        del transform_input
        event = eventbridge.event(
            identity=original_event["id"],
            source=original_event["source"],
            detail_type=original_event["detail-type"],
            detail=original_event["detail"],
            time=_iso(original_event["time"]),
            resources=list(original_event["resources"]),
        )
        _dispatch(emulator, self, event, original, forwarded=False)

    def validate(_: Any, pattern: Any) -> None:
        try:
            compile_pattern(pattern)
        except PatternError as error:
            raise InvalidEventPatternException(reason=str(error)) from None

    setattr(Rule, "send_to_targets", send_to_targets)  # noqa: B010 (moto's own method)
    setattr(EventPatternParser, "_validate_event_pattern", validate)  # noqa: B010 (likewise)


def put(event: dict[str, Any]) -> None:
    """An event of an AWS service itself, which only the default bus gets."""
    for rule in list(_backend().event_buses["default"].rules.values()):
        rule.send_to_targets(event)


def _dispatch(
    emulator: Emulator,
    rule: Any,
    event: dict[str, Any],
    original: Callable[..., None],
    *,
    forwarded: bool,
) -> None:
    from moto.core.utils import unix_time

    pattern = rule.event_pattern.dump()
    if rule.state == "DISABLED" or not pattern or not _compiled(pattern)(event):
        return
    facts = eventbridge.Rule(rule.name, rule.arn, _iso(unix_time()))
    for target in list(rule.targets):
        arn = target["Arn"]
        service = service_of(arn)
        if service == "events" and ":event-bus/" in arn:
            # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-bus-to-bus.html
            bus = _backend().event_buses.get(arn.partition(":event-bus/")[2])
            for other in list(bus.rules.values()) if bus is not None and not forwarded else ():
                _dispatch(emulator, other, event, original, forwarded=True)
        elif service in {"lambda", "sqs", "sns"}:
            _send(emulator, facts, target, eventbridge.target_input(target, event, facts))
        else:
            _by_moto(rule, target, event, original)


def _send(emulator: Emulator, rule: eventbridge.Rule, target: dict[str, Any], text: str) -> None:
    arn = target["Arn"]
    source = f"rule {rule.name}"
    if ":lambda:" in arn and not _is_json(text):
        say(f"{source}: {arn} is not invoked: its input is no JSON: {text:.200}")
    elif ":sns:" in arn:
        topics.publish(source, arn, text)
    else:
        group = (target.get("SqsParameters") or {}).get("MessageGroupId")
        emulator.deliver(
            source, arn, text, named={"group_id": group},
            dead_letter_arn=(target.get("DeadLetterConfig") or {}).get("Arn"),
            why={"RULE_ARN": rule.arn, "TARGET_ARN": arn},
        )  # fmt: skip


def _by_moto(
    rule: Any, target: dict[str, Any], event: dict[str, Any], original: Callable[..., None]
) -> None:
    """Logs, archives and API destinations are moto's; what is neither is not played."""
    from moto.events.models import EventPattern

    alone = copy.copy(rule)
    alone.targets, alone.event_pattern = [target], EventPattern.load(None)
    moment = datetime.fromisoformat(event["time"]).timestamp()
    try:
        original(alone, {**event, "time": moment, "ingestion-time": moment})
    except NotImplementedError:
        say(f"rule {rule.name}: events to {target['Arn']} are not played")


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Callable[[Any], bool]:
    return compile_pattern(json.loads(pattern))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _iso(moment: Any) -> str:
    """Seconds since the epoch, or what is a text already, as the envelope has it."""
    if isinstance(moment, str):
        return moment
    return datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _backend() -> Any:
    from moto.events.models import events_backends

    return events_backends[ACCOUNT][REGION]


class Rules:
    """Those of the template with a pattern; the next template's replace them."""

    def __init__(self) -> None:
        self._made: list[tuple[str, str]] = []

    def replace(
        self,
        rules: list[dict[str, Any]],
        stumbled: Callable[[str, Exception], object] | None = None,
    ) -> None:
        """Make these with their targets, and their buses where they are another stack's.

        ``stumbled`` hears of each rule on which moto itself fails (``FAULTS``); without it, that
        raises. What moto refuses as AWS does raises in any case.
        """
        backend = _backend()
        for bus, name in self._made:
            if bus in backend.event_buses:
                backend.event_buses[bus].rules.pop(name, None)
        self._made = []
        for rule in rules:
            try:
                self._make(rule)
            except FAULTS as error:
                if stumbled is None:
                    raise
                stumbled(rule["Name"], error)

    def _make(self, rule: dict[str, Any]) -> None:
        backend = _backend()
        bus = str(rule.get("EventBusName") or "default").rpartition("event-bus/")[2]
        if bus not in backend.event_buses:
            backend.create_event_bus(bus)
        backend.put_rule(
            rule["Name"],
            event_pattern=json.dumps(rule["EventPattern"]),
            state=rule.get("State", "ENABLED"),
            event_bus_arn=bus,
        )
        self._made.append((bus, rule["Name"]))
        backend.put_targets(rule["Name"], bus, rule.get("Targets") or [])
