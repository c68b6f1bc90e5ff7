"""Templates that AWS refuses, each with what the one line about it has to hold."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HEAD = "Transform: AWS::Serverless-2016-10-31\nResources:\n"
#: Line 5 is where a function's own properties begin.
FUNCTION = HEAD + (
    "  F:\n    Type: AWS::Serverless::Function\n    Properties: {CodeUri: ., Runtime: python3.13,\n"
    "      Handler: bad.handler, %s}\n"
)
QUEUE = "  Q: {Type: AWS::SQS::Queue}\n"


@dataclass(frozen=True)
class Bad:
    """``says`` is a pattern for what follows the name of the ``file`` in the line."""

    text: str
    says: str
    others: Mapping[str, str] = field(default_factory=dict)
    file: str = "template.yaml"

    def write(self, folder: Path) -> Path:
        (folder / "bad.py").write_text("def handler(event, context):\n    return {}\n")
        for name, text in self.others.items():
            (folder / name).write_text(text)
        path = folder / "template.yaml"
        path.write_text(self.text)
        return path

    def is_said_by(self, line: str) -> bool:
        return re.search(rf"{re.escape(self.file)}{self.says}", line) is not None


def with_property(text: str, says: str) -> Bad:
    return Bad(FUNCTION % text, rf":6: F.*{says}")


def resource(text: str, says: str) -> Bad:
    return Bad(HEAD + text + "\n", says)


def _nested(name: str) -> str:
    return (
        "Resources:\n"
        f"  Child: {{Type: AWS::CloudFormation::Stack, Properties: {{TemplateURL: {name}}}}}\n"
    )


_BOMB = "Metadata:\n  A0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"  A{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
_MAPPING = (
    QUEUE
    + "  M:\n    Type: AWS::Lambda::EventSourceMapping\n    Properties: {FunctionName: !Ref F, "
    "EventSourceArn: !GetAtt Q.Arn, %s}\n"
)

BAD: dict[str, Bad] = {
    # Files that are not templates.
    "unknown tag": Bad(
        FUNCTION % "Timeout: !Frob 3", r":6: .*!Frob"
    ),
    "not a number": Bad(FUNCTION % "Timeout: .nan", r":6: .*\.nan"),
    "infinite": Bad(FUNCTION % "Timeout: -.inf", r":6: .*-\.inf"),
    "binary": Bad(FUNCTION % "Description: !!binary aGk=", r":6: .*binary"),
    "a set": Bad(FUNCTION % "Tags: !!set {a, b}", r":6: .*set"),
    "a key that is a list": Bad(FUNCTION % "? [a] : b", r":6 "),
    "NUL in the text": Bad(FUNCTION % "Description: a\0b", r":6"),
    "recursive anchor": Bad(
        FUNCTION % "Tags: &a {again: *a}", r":6: .*anchor"
    ),
    "recursive merge": Bad(HEAD + "  F: &f\n    Type: T\n    <<: *f\n", r":\d+: "),
    "bomb": Bad(FUNCTION % "Timeout: 3" + _BOMB, r":\d+: .*aliases"),
    "deep flow": Bad(HEAD + "  F: " + "[" * 1000 + "]" * 1000 + "\n", r":3: .*deep"),
    "deep blocks": Bad(
        HEAD + "".join(f"{' ' * (2 + n)}a:\n" for n in range(1000)), r":\d+: .*deep"
    ),
    "deeper": Bad(HEAD + "  F: " + "[" * 100_000 + "\n", r":3: .*deep"),
    "two documents": Bad(FUNCTION % "Timeout: 3" + "---\nA: b\n", r":\d+ is not valid YAML"),
    # What CloudFormation's schema of a type requires.
    "a table without a key": resource(
        "  T:\n    Type: AWS::DynamoDB::Table\n"
        "    Properties:\n      BillingMode: PAY_PER_REQUEST\n",
        r":5: T: AWS::DynamoDB::Table needs KeySchema$",
    ),
    "a parameter without its type": resource(
        "  P: {Type: AWS::SSM::Parameter, Properties: {Value: a, Type: !Ref AWS::NoValue}}",
        r":3: P: AWS::SSM::Parameter needs Type$",
    ),
    # The form of a section.
    "type is a number": resource("  A:\n    Type: 5", r":4: A.*Type"),
    "no type": resource("  A:\n    Properties: {}", r":3: A.*Type"),
    "resource is a list": resource("  A: []", r":3: A"),
    "resource is nothing": resource("  A:", r":3: A"),
    "properties are a list": resource("  A:\n    Type: AWS::SQS::Queue\n    Properties: [a]",
                                      r":5: A.*Properties"),
    "depends on a map": resource("  A:\n    Type: AWS::SQS::Queue\n    DependsOn: {a: b}",
                                 r":5: A.*DependsOn"),
    "condition is a list": resource("  A:\n    Type: AWS::SQS::Queue\n    Condition: [C]",
                                    r":5: A.*Condition"),
    "condition is unknown": resource("  A:\n    Type: AWS::SQS::Queue\n    Condition: C",
                                     r":5: A.*Condition.*C"),
    "parameters are a list": Bad("Parameters: [a]\n" + HEAD + QUEUE, r":1: Parameters"),
    "parameter is text": Bad("Parameters:\n  P: x\n" + HEAD + QUEUE, r":2: .*P"),
    "parameter of type 5": Bad("Parameters:\n  P:\n    Type: 5\n    Default: a\n" + HEAD + QUEUE,
                               r":3: .*P.*Type"),
    "conditions are text": Bad("Conditions: x\n" + HEAD + QUEUE, r":1: Conditions"),
    "mappings are flat": Bad("Mappings:\n  M: {a: b}\n" + HEAD + QUEUE, r":2: .*M"),
    "output without value": Bad(HEAD + QUEUE + "Outputs:\n  O: {Description: d}\n",
                                r":5: .*O.*Value"),
    "globals are text": Bad("Globals: x\n" + HEAD + QUEUE, r":1: Globals"),
    "transform is a number": Bad("Transform: 5\nResources:\n" + QUEUE, r":1: Transform"),
    # Values.
    "timeout is text": with_property("Timeout: abc", "Timeout"),
    "timeout is a list": with_property("Timeout: [3]", "Timeout"),
    "timeout is a map": with_property("Timeout: {a: 3, b: 4}", "Timeout"),
    "timeout is true": with_property("Timeout: true", "Timeout"),
    "timeout is a fraction": with_property("Timeout: 2.5", "Timeout"),
    "tenancy of nobody": with_property(
        "TenancyConfig: {TenantIsolationMode: NONE}", "TenantIsolationMode must be PER_TENANT"
    ),
    "tenancy is text": with_property("TenancyConfig: PER_TENANT", "TenancyConfig"),
    "timeout 0": with_property("Timeout: 0", "Timeout.*1 to"),
    "timeout -1": with_property("Timeout: -1", "Timeout.*1 to"),
    "timeout 99999999": with_property("Timeout: 99999999", "Timeout.*1 to"),
    "memory 0": with_property("MemorySize: 0", "MemorySize.*128 to"),
    "memory 999999": with_property("MemorySize: 999999", "MemorySize.*128 to"),
    "storage 1": with_property("EphemeralStorage: {Size: 1}", "EphemeralStorage.*512 to"),
    "concurrency -1": with_property(
        "ReservedConcurrentExecutions: -1", "ReservedConcurrentExecutions"
    ),
    "environment is a list": with_property("Environment: {Variables: [a]}", "Variables"),
    "environment is text": Bad(FUNCTION % "Environment: x", r":6: .*\[F\].*Environment"),
    "name with =": with_property("Environment: {Variables: {'A=B': c}}", "Variables.*A=B"),
    "name with NUL": with_property(r'Environment: {Variables: {"A\0B": c}}', "Variables"),
    "empty name": with_property("Environment: {Variables: {'': c}}", "Variables"),
    "value with NUL": with_property(r'Environment: {Variables: {AB: "c\0d"}}', "Variables.*AB"),
    "value is a map": with_property("Environment: {Variables: {AB: {a: b, c: d}}}", "AB"),
    "handler with NUL": with_property(r'Description: x, Handler: "a\0.b"', "Handler"),
    "function name with a space": with_property("FunctionName: a b", "FunctionName"),
    "layers are text": Bad(FUNCTION % "Layers: {a: b, c: d}", r":6: .*\[F\].*Layers"),
    "doubled function name": Bad(
        FUNCTION % "FunctionName: same" + "  G:\n    Type: AWS::Serverless::Function\n"
        "    Properties:\n      CodeUri: .\n      Runtime: python3.13\n      Handler: bad.handler\n"
        "      FunctionName: same\n",
        r":13: G.*FunctionName.*same.*F",
    ),
    "doubled queue name": resource(
        "  A: {Type: AWS::SQS::Queue, Properties: {QueueName: q}}\n"
        "  B: {Type: AWS::SQS::Queue, Properties: {QueueName: q}}",
        r":4: B.*QueueName.*q.*A",
    ),
    "queue timeout": resource(
        "  A:\n    Type: AWS::SQS::Queue\n    Properties: {VisibilityTimeout: 99999999}",
        r":5: A.*VisibilityTimeout",
    ),
    "queue of nothing known": resource(
        "  A:\n    Type: AWS::SQS::Queue\n    Properties: {Frob: 1}", r":5: A.*Frob"
    ),
    "batch size 0": Bad(FUNCTION % "Timeout: 3" + _MAPPING % "BatchSize: 0", r":10: M.*BatchSize"),
    "batch size text": Bad(
        FUNCTION % "Timeout: 3" + _MAPPING % "BatchSize: a", r":10: M.*BatchSize"
    ),
    "batch size without window": Bad(
        FUNCTION % "Timeout: 3" + _MAPPING % "BatchSize: 100", r":10: M.*MaximumBatchingWindow"
    ),
    "filter is no JSON": Bad(
        FUNCTION % "Timeout: 3" + _MAPPING % "FilterCriteria: {Filters: [{Pattern: '{'}]}",
        r":\d+: M.*",
    ),
    **{
        f"filter criteria {criteria}": Bad(
            FUNCTION % "Timeout: 3" + _MAPPING % f"FilterCriteria: {criteria}", rf":10: M.*{says}"
        )
        for criteria, says in {
            "null": "FilterCriteria",
            "text": "FilterCriteria must be a map",
            "{Filters: null}": "Filters",
            "{Filters: [null]}": "Filters.0",
            "{Filters: [{Pattern: null}]}": "Pattern",
            "{Filters: [{Pattern: 'null'}]}": "must be a JSON object, not null",
            "{Filters: [{Pattern: '\"text\"'}]}": "must be a JSON object",
            "{Filters: [{Pattern: '{\"body\": []}'}]}": "and not empty",
        }.items()
    },
    "schedule of nothing": Bad(
        FUNCTION % "Events: {S: {Type: Schedule, Properties: {Schedule: often}}}",
        r":[3-6]: FS: .*often",
    ),
    # Functions and references.
    "select out of range": with_property("Timeout: !Select [7, [1, 2]]", "7 of Select"),
    "select negative": with_property("Timeout: !Select [-1, [1, 2]]", "-1 of Select"),
    "select of nothing": with_property("Timeout: !Select [a, [1, 2]]", "Select"),
    "select of text": with_property("Timeout: !Select x", "Select"),
    "join of a map": with_property("Description: !Join {a: b, c: d}", "Join"),
    "sub of a map": with_property("Description: !Sub {a: b, c: d}", "Sub"),
    "if of nothing": with_property("Description: !If [a]", "condition"),
    "find in nothing": with_property("Description: !FindInMap [a]", "FindInMap"),
    "ref of a list": with_property("Description: !Ref [a]", "Ref"),
    "circular GetAtt": resource(
        "  A: {Type: AWS::SQS::Queue, Properties: {QueueName: !GetAtt B.QueueName}}\n"
        "  B: {Type: AWS::SQS::Queue, Properties: {QueueName: !GetAtt A.QueueName}}",
        r":[34]: (A → B → A|B → A → B) is circular",
    ),
    "GetAtt of itself": resource(
        "  A: {Type: AWS::SQS::Queue, Properties: {QueueName: !GetAtt A.QueueName}}",
        r":3: A → A is circular",
    ),
    "circular DependsOn": resource(
        "  A: {Type: AWS::SQS::Queue, DependsOn: B}\n  B: {Type: AWS::SQS::Queue, DependsOn: [A]}",
        r":[34]: (A → B → A|B → A → B) is circular",
    ),
    "circular conditions": Bad(
        "Conditions:\n  C: !Not [!Condition D]\n  D: !Not [!Condition C]\n" + HEAD
        + "  A: {Type: AWS::SQS::Queue, Condition: C}\n",
        r":[236]: .*C",
    ),
    "definition with NUL": Bad(
        'Transform: AWS::Serverless-2016-10-31\nResources:\n  A:\n    Type: AWS::Serverless::Api\n'
        '    Properties:\n      StageName: p\n      DefinitionUri: "a\\0b"\n',
        r":7: A\.?.*DefinitionUri.*",
    ),
    # Nested stacks.
    "nests itself": Bad(_nested("template.yaml"), r":2: Child.*itself"),
    "nests in a circle": Bad(
        _nested("other.yaml"),
        r":2: Child.*itself",
        {"other.yaml": _nested("template.yaml")},
        "other.yaml",
    ),
    "nests a hundred deep": Bad(
        _nested("t0.yaml"), r":2: Child.*deep",
        {f"t{n}.yaml": _nested(f"t{n + 1}.yaml") for n in range(100)}, "t19.yaml",
    ),
    "nests what is bad": Bad(
        _nested("other.yaml"), r":3: A.*Type", {"other.yaml": "Resources:\n  A:\n    Type: 5\n"},
        "other.yaml",
    ),
}  # fmt: skip
