def test_a_signup_is_counted_after_the_response(twolane):
    answer = twolane.client.post("/signups/Ada")

    assert answer.status_code == 202
    kinds = twolane.journal.kinds
    assert kinds.index("request.answered") < kinds.index("inline.succeeded")


def test_a_signup_is_welcomed_by_a_task(twolane):
    identity = twolane.client.post("/signups/Ada").json()["id"]
    assert twolane.client.get(f"/tasks/{identity}").json()["state"] == "PENDING"

    twolane.deferred.run()

    assert twolane.client.get(f"/tasks/{identity}").json()["result"] == "Welcome, Ada"


def test_a_welcome_that_is_delivered_twice_is_sent_once(twolane):
    twolane.faults.inject("queue.duplicate-delivery", count=1)
    identity = twolane.client.post("/signups/Ada").json()["id"]

    twolane.deferred.run_until_idle()

    assert twolane.tasks[identity].attempts == 1
    assert "duplicate" in twolane.tasks[identity].steps
