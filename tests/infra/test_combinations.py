"""What holds however the template is deployed, by the documentation's parameters."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from twolane_local import template
from twolane_local.checks.lint import lint
from twolane_local.checks.lint.physical_names import given_names
from twolane_local.template.yaml import read_template

from .combinations import COMBINATIONS, KEY, LONG_LANE, MAIL, NETWORK, TOKEN
from .conftest import ROOT, Expanded, expanded

#: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference-rules.html
RULE_FUNCTIONS = {
    "Ref", "Fn::And", "Fn::Contains", "Fn::EachMemberEquals", "Fn::EachMemberIn", "Fn::Equals",
    "Fn::Not", "Fn::Or", "Fn::RefAll", "Fn::ValueOf", "Fn::ValueOfAll",
}  # fmt: skip
each_way = pytest.mark.parametrize("parameters", COMBINATIONS.values(), ids=COMBINATIONS)


def functions_in(value: Any) -> set[str]:
    if isinstance(value, list):
        return {name for each in value for name in functions_in(each)}
    if not isinstance(value, dict):
        return set()
    own = {name for name in value if name == "Ref" or name.startswith("Fn::")}
    return own | functions_in(list(value.values()))


def refused(rules: dict[str, Any], parameters: dict[str, str]) -> list[str]:
    """The descriptions of the assertions by which CloudFormation would refuse the parameters."""

    def holds(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((function, argument),) = value.items()
        if function == "Ref":
            return parameters[argument]
        asked = [holds(each) for each in argument]
        return {
            "Fn::Equals": lambda: asked[0] == asked[1],
            "Fn::Not": lambda: not asked[0],
            "Fn::Or": lambda: any(asked),
            "Fn::And": lambda: all(asked),
            "Fn::Contains": lambda: asked[1] in asked[0],
        }[function]()

    return [
        each["AssertDescription"].strip()
        for rule in rules.values()
        if holds(rule["RuleCondition"])
        for each in rule["Assertions"]
        if not holds(each["Assert"])
    ]


def values(parameters: dict[str, str]) -> dict[str, str]:
    declared = read_template(ROOT / "template.yaml").content["Parameters"]
    assert set(parameters) <= set(declared)
    for name, value in parameters.items():
        allowed = declared[name].get("AllowedPattern", "")
        assert re.search(allowed, value), f"{name}={value} does not match {allowed}"
    return {name: str(parameters.get(name, each.get("Default"))) for name, each in declared.items()}


def rules() -> dict[str, Any]:
    found: dict[str, Any] = template.expand(ROOT / "template.yaml", {})["Rules"]
    return found


def test_rules_use_the_functions_that_cloudformation_takes_there() -> None:
    assert len(rules()) > 5
    for rule in rules().values():
        for part in [rule["RuleCondition"], *[each["Assert"] for each in rule["Assertions"]]]:
            assert functions_in(part) <= RULE_FUNCTIONS


@each_way
def test_the_rules_let_it_through(parameters: dict[str, str]) -> None:
    assert refused(rules(), values(parameters)) == []


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"JwtIssuer": TOKEN["JwtIssuer"]}, "JwtIssuer needs JwtAudience"),
        (MAIL, "SenderAddress needs ApiKeySha256 or JwtIssuer"),
        ({**KEY, "CreateSenderIdentity": "true"}, "CreateSenderIdentity needs SenderAddress"),
        ({"SnapStart": "true", "Runtime": "python3.11"}, "SnapStart needs python3.12"),
        ({**NETWORK, "VpcSecurityGroupIds": ""}, "VpcSubnetIds needs VpcSecurityGroupIds"),
        ({**NETWORK, "VpcSubnetIds": ""}, "VpcSecurityGroupIds needs VpcSubnetIds"),
        ({**NETWORK, "WithRedis": "true"}, "WithRedis has a network of its own"),
        ({**LONG_LANE, "LongLaneImage": ""}, "WithLongLane needs LongLaneImage"),
        ({**LONG_LANE, "LongTasks": ""}, "WithLongLane needs LongTasks"),
    ],
)
def test_the_rules_refuse_what_does_not_go_together(parameters: dict[str, str], why: str) -> None:
    (told,) = refused(rules(), values(parameters))
    assert told.startswith(why)


def test_every_parameter_that_the_documentation_names_is_among_them() -> None:
    declared = set(read_template(ROOT / "template.yaml").content["Parameters"])
    pages = "".join(
        (ROOT / "docs" / f"{page}.md").read_text()
        for page in ("deploying", "security", "operating")
    )
    named = set(re.findall(r"\b([A-Z][A-Za-z0-9]+)(?==|`)", pages)) & declared
    assert len(named) > 15
    assert named <= {name for each in COMBINATIONS.values() for name in each}


@each_way
def test_nothing_names_what_is_not_there(parameters: dict[str, str]) -> None:
    made = expanded(**parameters)
    there = set(made.loaded.resources) | set(made.loaded.parameters)
    for logical_id, resource in made.loaded.resources.items():
        named = referred(
            made, [resource.get("Properties"), {"DependsOn": resource.get("DependsOn")}]
        )
        assert named <= there, logical_id
    assert referred(made, list(made.loaded.outputs.values())) <= there


def referred(made: Expanded, value: Any) -> set[str]:
    """What the value needs to be there, of each ``Fn::If`` the branch that counts."""
    if isinstance(value, list):
        return {name for each in value for name in referred(made, each)}
    if not isinstance(value, dict):
        return set()
    found: set[str] = set()
    for function, argument in value.items():
        if function == "Fn::If":
            condition, yes, no = argument
            chosen = yes if made.names.condition(condition) else no
            found |= referred(made, chosen)
        elif function == "Ref":
            found.add(argument)
        elif function == "Fn::GetAtt":
            found.add(argument[0] if isinstance(argument, list) else argument.split(".")[0])
        elif function == "DependsOn":
            found |= set([argument] if isinstance(argument, str) else argument or ())
        elif function == "Fn::Sub":
            text, more = (argument, {}) if isinstance(argument, str) else argument
            variables = re.findall(r"\$\{([^!}.]+)(?:\.[^}]*)?\}", text)
            found |= set(variables) - set(more) | referred(made, list(more.values()))
        else:
            found |= referred(made, argument)
    return found


@pytest.mark.slow
@each_way
def test_a_second_stack_can_be_made(parameters: dict[str, str]) -> None:
    names = dict(given_names(expanded(**parameters).loaded))
    fixed = {name for name, each in names.items() if not each.depends}
    assert not fixed
    # Whatever the stack's name is.
    for logical_id, each in names.items():
        assert each.fixed is None or each.fixed + 128 * (each.times or 0) <= each.rules.longest, (
            f"{logical_id} has no room for a stack's name of 128 characters"
        )


def test_an_identity_is_made_only_when_asked_for() -> None:
    for parameters in COMBINATIONS.values():
        made = list(expanded(**parameters).of_type("AWS::SES::EmailIdentity"))
        assert bool(made) == (parameters.get("CreateSenderIdentity") == "true")


def mailers(made: Expanded) -> set[str]:
    found = {
        each["Environment"]["Variables"]["MAILER"]
        for _, each in made.of_type("AWS::Lambda::Function")
    }
    for _, task in made.of_type("AWS::ECS::TaskDefinition"):
        for container in task["ContainerDefinitions"]:
            found |= {
                each["Value"] for each in container["Environment"] if each["Name"] == "MAILER"
            }
    return found


@pytest.mark.parametrize("more", [{}, LONG_LANE], ids=["functions", "containers"])
def test_mail_leaves_only_where_callers_are_known(more: dict[str, str]) -> None:
    for parameters in ({}, MAIL, KEY, TOKEN):
        made = expanded(**parameters, **more)
        assert mailers(made) == {"log"}
        assert not [
            name
            for name, _ in made.of_type("AWS::IAM::Role")
            for one in made.allowed(name)
            if one.action.startswith("ses:")
        ]
    for known in (KEY, TOKEN):
        assert mailers(expanded(**known, **MAIL, **more)) == {"ses"}


@each_way
def test_nothing_is_reserved_unless_asked_for(parameters: dict[str, str]) -> None:
    # In an account of ten environments Lambda refuses to reserve any.
    # https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
    made = expanded(**parameters)
    reserved = [name for name, each in made.of_type("AWS::Lambda::Function")
                if "ReservedConcurrentExecutions" in each]  # fmt: skip
    assert bool(reserved) == (parameters.get("ReserveConcurrency") == "true")
    if "WorkerConcurrency" not in parameters:
        ((_, mapping),) = made.of_type("AWS::Lambda::EventSourceMapping")
        # One for the tick; the API has what is left of ten.
        assert int(mapping["ScalingConfig"]["MaximumConcurrency"]) + 1 < 10


@each_way
def test_silence_is_an_alarm_where_there_is_a_tick(parameters: dict[str, str]) -> None:
    made = expanded(**parameters)
    ticks = made.properties("BeatFunctionTick")["State"] == "ENABLED"
    entries = [name for name, each in made.of_type("AWS::Scheduler::Schedule")
               if name != "BeatFunctionTick"]  # fmt: skip
    assert ticks != bool(entries)
    silent = "AlarmsBeatSilent" in made.loaded.resources
    assert silent == (ticks and parameters.get("WithAlarms") == "true")


@pytest.mark.slow
@each_way
def test_lint_finds_nothing(parameters: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = lint(ROOT / "template.yaml", parameters, with_application=False)
    assert [f"{one.where}: {one.message}" for one in found] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chosen", "redis-in-a-network", "everything"])
def test_cfn_lint_finds_nothing(name: str, tmp_path: Path) -> None:
    # Each value as the parameter's default, which cfn-lint takes for what a deployment has.
    whole = template.expand(ROOT / "template.yaml", COMBINATIONS[name])
    for parameter, value in COMBINATIONS[name].items():
        declared = whole["Parameters"][parameter]
        declared["Default"] = int(value) if declared["Type"] == "Number" else value
    path = tmp_path / "expanded.json"
    path.write_text(json.dumps(whole))
    (tmp_path / "infra").symlink_to(ROOT / "infra")
    linter = Path(sys.executable).with_name("cfn-lint")
    program = [linter, "-a", "cfn_lint_serverless.rules", "--", path]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
