def test_an_order_is_paid_by_a_task(shop):
    identity = shop.client.post("/orders", params={"item": "book"}).json()["id"]
    order = {"id": identity, "item": "book", "paid": False}
    assert shop.client.get(f"/orders/{identity}").json() == order

    shop.deferred.run()

    assert shop.client.get(f"/orders/{identity}").json() == {**order, "paid": True}


def test_each_test_has_a_database_of_its_own(shop):
    assert shop.client.get("/orders/1").status_code == 404


def test_a_task_that_is_killed_before_its_commit_runs_again(shop):
    shop.faults.inject("environment.killed-after-effect")
    shop.client.post("/orders", params={"item": "book"})

    shop.deferred.run_until_idle()

    (task,) = shop.tasks.named("pay")
    assert (task.state, task.attempts) == ("SUCCESS", 2)
    assert shop.client.get("/orders/1").json()["paid"] is True
