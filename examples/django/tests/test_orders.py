def test_an_order_is_paid_by_a_task(shop):
    identity = shop.client.post("/orders/", data={"item": "book"}).json()["id"]
    order = {"id": identity, "item": "book", "paid": False}
    assert shop.client.get(f"/orders/{identity}/").json() == order

    shop.deferred.run()

    assert shop.client.get(f"/orders/{identity}/").json() == {**order, "paid": True}


def test_an_order_that_is_rolled_back_sends_nothing(shop):
    assert shop.client.post("/orders/", data={}).status_code == 400
    assert len(shop.queue("Tasks")) == 0


def test_a_task_that_comes_twice_pays_once(shop):
    shop.faults.inject("queue.duplicate-delivery", count=1)
    shop.client.post("/orders/", data={"item": "book"})

    shop.deferred.run_until_idle()

    (task,) = shop.tasks.named("pay")
    assert (task.state, task.attempts) == ("SUCCESS", 1)
