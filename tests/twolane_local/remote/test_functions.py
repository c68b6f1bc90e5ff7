from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.errors import LocalError
from twolane_local.remote.resources import StackFunctions, read_resources

if TYPE_CHECKING:
    from twolane_local.remote.account import Account


@pytest.fixture
def functions(account: Account, stack: str) -> StackFunctions:
    return StackFunctions(account, read_resources(account, stack))


def test_functions_in_the_shape_of_the_control_api(
    functions: StackFunctions, account: Account
) -> None:
    account.client("lambda").put_function_concurrency(
        FunctionName="shop-Worker", ReservedConcurrentExecutions=7
    )
    api, worker = functions.listed()
    assert worker.pop("lastModified")
    assert worker == {
        "name": "shop-Worker", "logicalId": "Worker", "handler": "index.handler",
        "runtime": "python3.12", "memoryMb": 512, "timeoutSeconds": 60,
        "concurrency": {"reserved": 7}, "state": "Active",
    }  # fmt: skip
    assert api["concurrency"] == {"reserved": None}


def test_the_log_groups_are_lambdas_own_unless_named(functions: StackFunctions) -> None:
    assert functions.log_groups()["shop-Api"] == "/aws/lambda/shop-Api"


def test_a_function_may_be_named_by_its_logical_id(functions: StackFunctions) -> None:
    assert functions.name_of("Worker") == functions.name_of("shop-Worker") == "shop-Worker"
    with pytest.raises(LocalError, match="no function 'X'; it has: Api, Worker"):
        functions.name_of("X")
