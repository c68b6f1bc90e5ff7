def test_each_task_goes_to_its_queue(twolane):
    twolane.client.post("/mails/ann@example.com")
    twolane.client.post("/albums", json=["a.jpg", "b.jpg"])
    twolane.client.post("/accounts/ann/bookings", params={"cents": 5})

    assert [task.name for task in twolane.queue("Mail").tasks] == ["tasks.send_mail"]
    assert [task.name for task in twolane.queue("Images").tasks] == ["tasks.thumbnail"] * 2
    assert [task.name for task in twolane.queue("Ledger").tasks] == ["tasks.book"]


def test_an_album_counts_its_photos(twolane):
    photos = [f"{number}.jpg" for number in range(12)]
    identity = twolane.client.post("/albums", json=photos).json()["id"]
    assert twolane.client.get(f"/albums/{identity}").json() == {"photos": 12, "done": 0}

    twolane.deferred.run()

    assert twolane.client.get(f"/albums/{identity}").json() == {"photos": 12, "done": 12}


def test_bookings_of_an_account_stay_in_order(twolane):
    sent = {"ann": [], "bob": []}
    for cents in range(6):
        for account, identities in sent.items():
            answer = twolane.client.post(f"/accounts/{account}/bookings", params={"cents": cents})
            identities.append(answer.json()["id"])

    twolane.deferred.run_until_idle()

    started = [event.task_id for event in twolane.journal.find("task.started")]
    for identities in sent.values():
        assert [identity for identity in started if identity in identities] == identities


def test_what_cannot_be_sent_is_a_dead_letter_and_comes_back(twolane):
    twolane.client.post("/mails/eve@spam.example.com")

    twolane.deferred.run_until_idle()

    (dead,) = twolane.queue("Mail").dead_letters
    assert dead.task.args == ("eve@spam.example.com",)
    assert twolane.queue("Mail").redrive() == 1
