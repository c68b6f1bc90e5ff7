"""Who may reach whom: everything that keeps results in a Redis can open a connection to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from .combinations import COMBINATIONS
from .conftest import Expanded, expanded

if TYPE_CHECKING:
    from collections.abc import Iterator

ANYWHERE = "0.0.0.0/0"
#: What the functions call of AWS, as VPC endpoints name it.
#: https://docs.aws.amazon.com/vpc/latest/privatelink/aws-services-privatelink-support.html
SERVICES = {"sqs", "s3", "dynamodb", "scheduler", "email"}


@dataclass(frozen=True)
class Place:
    """Where a function or a service is in a network; no groups, in none."""

    who: str
    groups: tuple[str, ...]
    subnets: tuple[str, ...]
    public: bool
    backend: str


def places(made: Expanded) -> Iterator[Place]:
    for name, each in made.of_type("AWS::Lambda::Function"):
        network = each.get("VpcConfig", {})
        yield Place(
            name, tuple(network.get("SecurityGroupIds", ())), tuple(network.get("SubnetIds", ())),
            False, each["Environment"]["Variables"]["RESULT_BACKEND"],
        )  # fmt: skip
    for name, each in made.of_type("AWS::ECS::Service"):
        network = each["NetworkConfiguration"]["AwsvpcConfiguration"]
        (container,) = made.properties("LongLaneWorker")["ContainerDefinitions"]
        variables = {one["Name"]: one["Value"] for one in container["Environment"]}
        yield Place(
            name, tuple(network["SecurityGroups"]), tuple(network["Subnets"]),
            network["AssignPublicIp"] == "ENABLED", variables["RESULT_BACKEND"],
        )  # fmt: skip


def ours(made: Expanded) -> dict[str, str]:
    """The security groups of the template: logical ids by both of their names."""
    found = {}
    for name, _ in made.of_type("AWS::EC2::SecurityGroup"):
        found[made.names.ref(name)] = name
        found[made.names.attribute(name, "GroupId")] = name
    return found


def allows(made: Expanded, group: str, way: str, port: int, other: str) -> bool:
    """Whether a rule of the group, of its own or beside it, lets through to ``other``."""
    known = ours(made)
    rules = list(made.properties(known[group]).get(f"SecurityGroup{way}", ()))
    rules += [
        rule
        for _, rule in made.of_type(f"AWS::EC2::SecurityGroup{way}")
        if known.get(rule["GroupId"]) == known[group]
    ]
    side = "DestinationSecurityGroupId" if way == "Egress" else "SourceSecurityGroupId"
    return any(
        rule["IpProtocol"] == "tcp"
        and int(rule["FromPort"]) <= port <= int(rule["ToPort"])
        and (rule.get("CidrIp") == other or known.get(rule.get(side), "-") == known.get(other, ""))
        for rule in rules
    )


def port_of(url: str) -> int:
    found = re.search(r":(\d+)/", url)
    return int(found[1]) if found else 6379  # an attribute that only a deployment knows


def reaches_redis(made: Expanded, place: Place) -> bool:
    known = ours(made)
    port = port_of(place.backend)
    if not place.groups:
        return "RedisCache" not in made.loaded.resources  # in no network, and so anywhere outside
    if not set(place.groups) <= set(known):
        return "RedisCache" not in made.loaded.resources  # in the user's network, by its own rules
    if "RedisCache" not in made.loaded.resources:
        return place.public and any(
            allows(made, group, "Egress", port, ANYWHERE) for group in place.groups
        )
    (cache,) = made.properties("RedisCache")["SecurityGroupIds"]
    same = all(
        made.names.resolve(made.loaded.resources[known[group]]["Properties"]["VpcId"])
        == made.names.ref("RedisVpc")
        for group in [*place.groups, cache]
    )
    return same and any(
        allows(made, group, "Egress", port, cache) and allows(made, cache, "Ingress", port, group)
        for group in place.groups
    )


def reaches_aws(made: Expanded, place: Place) -> bool:
    known = ours(made)
    if not place.groups or not set(place.groups) <= set(known):
        return True
    if not any(allows(made, group, "Egress", 443, ANYWHERE) for group in place.groups):
        return False
    if place.public:
        ways = dict(made.of_type("AWS::EC2::Route"))
        return [each["DestinationCidrBlock"] for each in ways.values()] == [ANYWHERE]
    endpoints = {each["ServiceName"].rpartition(".")[2]: each for _, each in
                 made.of_type("AWS::EC2::VPCEndpoint")}  # fmt: skip
    cidr = made.properties("RedisVpc")["CidrBlock"]
    return set(endpoints) >= SERVICES and all(
        allows(made, group, "Ingress", 443, cidr)
        for each in endpoints.values()
        for group in each.get("SecurityGroupIds", ())
    )


@pytest.mark.parametrize("parameters", COMBINATIONS.values(), ids=COMBINATIONS)
def test_each_reaches_what_it_keeps_results_in_and_what_it_calls(
    parameters: dict[str, str],
) -> None:
    made = expanded(**parameters)
    found = list(places(made))
    assert len(found) == 3 + (parameters.get("WithLongLane") == "true")
    for place in found:
        redis = place.backend.startswith("redis")
        assert redis == bool(parameters.get("RedisUrl") or parameters.get("WithRedis"))
        assert not redis or reaches_redis(made, place), f"{place.who} has no way to Redis"
        assert reaches_aws(made, place), f"{place.who} has no way to AWS"


@pytest.mark.parametrize("parameters", COMBINATIONS.values(), ids=COMBINATIONS)
def test_who_is_in_a_network_may_be(parameters: dict[str, str]) -> None:
    made = expanded(**parameters)
    for name, function in made.of_type("AWS::Lambda::Function"):
        role = function["Role"].rpartition("/local-")[2]
        policies = made.properties(role)["ManagedPolicyArns"]
        attached = any(each.endswith("/AWSLambdaENIManagementAccess") for each in policies)
        assert attached == ("VpcConfig" in function), name


def test_a_redis_in_a_network_is_reached_from_there() -> None:
    made = expanded(**COMBINATIONS["long-lane-and-redis-in-a-network"])
    for place in places(made):
        assert place.subnets == ("subnet-0a1b2c3d", "subnet-1a2b3c4d")
        assert place.groups == ("sg-0a1b2c3d",)
    # No second network beside it, and no address of its own in the first.
    assert not [name for name in made.loaded.resources if name.startswith("LongLaneNetwork")]
