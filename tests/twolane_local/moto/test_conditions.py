from __future__ import annotations

import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError


def put(key: str, value: str, condition: str = "attribute_not_exists(id)") -> dict[str, Any]:
    item = {"id": {"S": key}, "v": {"S": value}}
    return {"Put": {"TableName": "results", "Item": item, "ConditionExpression": condition}}


def stored(results_table: Any) -> dict[str, str]:
    items = results_table.scan(TableName="results")["Items"]
    return {item["id"]["S"]: item["v"]["S"] for item in items}


def codes(error: pytest.ExceptionInfo[ClientError]) -> list[str]:
    response: Any = error.value.response
    return [reason["Code"] for reason in response["CancellationReasons"]]


def test_a_transaction_writes_all_or_nothing(results_table: Any) -> None:
    results_table.transact_write_items(TransactItems=[put("a", "1"), put("b", "1")])
    with pytest.raises(ClientError) as error:
        results_table.transact_write_items(TransactItems=[put("c", "2"), put("b", "2")])
    assert codes(error) == ["None", "ConditionalCheckFailed"]
    assert stored(results_table) == {"a": "1", "b": "1"}


def test_the_item_in_the_way_is_shown_where_it_is_asked_for(results_table: Any) -> None:
    results_table.transact_write_items(TransactItems=[put("a", "1")])
    asking = put("a", "2")
    asking["Put"]["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    with pytest.raises(ClientError) as error:
        results_table.transact_write_items(TransactItems=[asking])
    response: Any = error.value.response
    assert response["CancellationReasons"][0]["Item"] == {"id": {"S": "a"}, "v": {"S": "1"}}


def test_one_item_twice_is_refused(results_table: Any) -> None:
    with pytest.raises(ClientError, match="multiple operations on one item"):
        results_table.transact_write_items(TransactItems=[put("a", "1"), put("a", "2")])
    assert stored(results_table) == {}


def test_a_condition_alone_stops_what_stands_beside_it(results_table: Any) -> None:
    results_table.transact_write_items(TransactItems=[put("a", "1")])
    check = {
        "TableName": "results",
        "Key": {"id": {"S": "gone"}},
        "ConditionExpression": "attribute_exists(id)",
    }
    items = [put("a", "2", "attribute_exists(id)"), {"ConditionCheck": check}]
    with pytest.raises(ClientError) as error:
        results_table.transact_write_items(TransactItems=items)
    assert codes(error) == ["None", "ConditionalCheckFailed"]
    assert stored(results_table) == {"a": "1"}


def update(key: str, expression: str, **values: dict[str, Any]) -> dict[str, Any]:
    named = {"ExpressionAttributeValues": {f":{name}": each for name, each in values.items()}}
    key_of = {"TableName": "results", "Key": {"id": {"S": key}}}
    return {"Update": {**key_of, "UpdateExpression": expression, **(named if values else {})}}


def test_a_transaction_updates_deletes_and_checks(results_table: Any) -> None:
    results_table.transact_write_items(TransactItems=[put("a", "1"), put("b", "1"), put("c", "1")])
    delete = {"TableName": "results", "Key": {"id": {"S": "b"}}}
    check = {**delete, "Key": {"id": {"S": "c"}}, "ConditionExpression": "attribute_exists(id)"}
    results_table.transact_write_items(
        TransactItems=[
            update("a", "SET v = :new", new={"S": "2"}),
            {"Delete": delete},
            {"ConditionCheck": check},
        ]
    )
    assert stored(results_table) == {"a": "2", "c": "1"}


@pytest.mark.parametrize("expression", ["ADD v :one", "SET v = v + :one", "SET v = missing + :one"])
def test_a_write_that_goes_wrong_takes_the_others_back(results_table: Any, expression: str) -> None:
    """After its conditions held: a text is not a number, and neither is a missing attribute."""
    results_table.transact_write_items(TransactItems=[put("a", "1"), put("b", "1"), put("c", "1")])
    delete = {"TableName": "results", "Key": {"id": {"S": "c"}}}
    with pytest.raises(ClientError):
        results_table.transact_write_items(
            TransactItems=[
                put("new", "1"),
                update("a", "SET v = :new", new={"S": "2"}),
                {"Delete": delete},
                update("b", expression, one={"N": "1"}),
            ]
        )
    assert stored(results_table) == {"a": "1", "b": "1", "c": "1"}


def test_an_item_that_is_too_big_takes_the_others_back(results_table: Any) -> None:
    """https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html"""
    with pytest.raises(ClientError):
        results_table.transact_write_items(TransactItems=[put("a", "1"), put("b", "x" * 410_000)])
    assert stored(results_table) == {}


def test_partiql_s_transaction_is_all_or_nothing(results_table: Any) -> None:
    results_table.transact_write_items(TransactItems=[put("a", "1")])
    statements = [
        "INSERT INTO results VALUE {'id': 'new', 'v': '1'}",
        "UPDATE results SET v = '2' WHERE id = 'a'",
        "INSERT INTO results VALUE {'id': 1}",
    ]
    with pytest.raises(ClientError):
        results_table.execute_transaction(
            TransactStatements=[{"Statement": each} for each in statements]
        )
    assert stored(results_table) == {"a": "1"}


def test_of_many_threads_one_holds_each_condition(results_table: Any) -> None:
    """Each wants two items; a refused one takes nothing back that another has written."""
    start = threading.Barrier(6)
    lost: list[str] = []

    def contend(name: str) -> None:
        start.wait(10)
        try:
            results_table.transact_write_items(
                TransactItems=[put("prize", name), put(f"of-{name}", name)]
            )
        except ClientError:
            lost.append(name)
            results_table.put_item(
                TableName="results", Item=put(f"lost-{name}", name)["Put"]["Item"]
            )

    threads = [threading.Thread(target=contend, args=(f"t{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    (winner,) = {f"t{n}" for n in range(6)} - set(lost)
    others = {f"lost-{name}": name for name in lost}
    assert stored(results_table) == {"prize": winner, f"of-{winner}": winner, **others}
