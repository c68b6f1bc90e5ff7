"""The routes, over real HTTP, on real queues and functions."""

from __future__ import annotations

import json

from twolane_local.aws.sqs.service import NewMessage
from twolane_local.journal.messages import task_message
from twolane_local.remote.emulator import find

DEAD = '{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:dead", "maxReceiveCount": 1}'


def queues(up):
    up.parts.queues.create("dead")
    up.parts.queues.create("q", {"RedrivePolicy": DEAD})
    return up.parts.queues


def test_the_page_has_the_token_and_the_status_the_limits(run, tmp_path):
    async def body(up):
        page = await up.client.get("/queues/anything")
        assert f'content="{up.console.token}"' in page.text
        assert page.headers["cache-control"] == "no-store"
        status = await up.get("status")
        assert status["journal"]["limit"] == 100_000
        assert status["journal"]["bytesLimit"] == 64 << 20
        (running,) = find(tmp_path / "run")
        assert (running.url, running.token) == (up.console.url, up.console.token)

    run(body)
    assert find(tmp_path / "run") == []


def test_errors_are_problems(run):
    async def body(up):
        answer = await up.client.get("/api/queues/tusks/messages")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"].startswith("there is no queue named 'tusks'")
        assert (await up.get("nothing", 404))["title"] == "Not Found"
        assert (await up.get("queues/q/send", 405))["status"] == 405
        assert "holds nothing" in (await up.get("trace/unknown-id", 404))["detail"]
        assert (await up.get("journal", 400, limit="many"))["status"] == 400
        answer = await up.client.post(
            "/api/replay", content=b"[1]", headers={"content-type": "application/json"}
        )
        assert answer.status_code == 400

    run(body)


def test_the_journal_is_read_in_pages(run):
    async def body(up):
        for number in range(5):
            up.parts.journal.record("log", line=str(number), payload="content")

        def lines(page):
            return [event["data"]["line"] for event in page["events"]]

        latest = await up.get("journal", limit=2)
        assert (lines(latest), latest["more"], latest["last"]) == (["3", "4"], True, 5)
        first = await up.get("journal", after=0, limit=2)
        assert (lines(first), first["more"]) == (["0", "1"], True)
        assert lines(await up.get("journal", before=3)) == ["0", "1"]
        assert "payload" not in latest["events"][0]["data"]
        whole = await up.get("journal/1")
        assert whole["data"]["payload"] == "content"
        await up.get("journal/99", 404)

    run(body)


def test_messages_are_sent_looked_at_and_deleted(run):
    async def body(up):
        queues(up)
        sent = await up.post("queues/q/send", 201, body="hello", delaySeconds=30,
                             messageAttributes={"a": {"StringValue": "1"}})  # fmt: skip
        (shown,) = (await up.get("queues/q/messages"))["messages"]
        assert (shown["id"], shown["state"]) == (sent["messageId"], "delayed")
        assert shown["messageAttributes"]["a"]["StringValue"] == "1"
        one = await up.get(f"queues/q/messages/{sent['messageId']}")
        assert one["body"] == "hello"
        gone = await up.post("queues/q/delete", messageIds=[sent["messageId"], "none"])
        assert gone == {"deleted": [sent["messageId"]], "missing": ["none"]}
        await up.get(f"queues/q/messages/{sent['messageId']}", 404)
        await up.post("queues/q/send", 201, body="1")
        assert (await up.post("queues/q/purge"))["purged"] == 1
        (first, _) = sorted((await up.get("queues"))["queues"], key=lambda q: q["name"] != "q")
        assert sum(first["throughput"]["sent"]) == 2
        await up.post("queues/q/send", 400, body=5)
        await up.post("queues/q/delete", 400)

    run(body)


def dead_letters(up, *bodies):
    service = queues(up)
    ids = [service.send("q", NewMessage(body)).id for body in bodies]
    for _ in bodies:
        service.receive("q", visibility_s=0)
    service.receive("q")
    return ids


def test_dead_letters_are_redriven_one_some_all_and_edited(run):
    async def body(up):
        _, task = task_message("t", ["old"], task_id="task-aaaa")
        first, second, third = dead_letters(up, task, "b", "c")
        answer = await up.post("queues/dead/redrive", messageIds=[first, "none"],
                               edits={first: {"args": ["new"]}})  # fmt: skip
        (moved,) = answer["redriven"]
        assert (moved["messageId"], moved["queue"]) == (first, "q")
        assert answer["failed"] == [{"messageId": "none", "why": "it is not on dead"}]
        edited = await up.get(f"queues/q/messages/{moved['newMessageId']}")
        assert (edited["task"]["args"], edited["task"]["id"]) == (["new"], "task-aaaa")
        await up.post("queues/dead/redrive", messageIds=[second], bodies={second: "B"})
        assert len((await up.post("queues/dead/redrive"))["redriven"]) == 1
        bodies = [each["body"] for each in (await up.get("queues/q/messages"))["messages"]]
        assert bodies[1:] == ["B", "c"]
        assert third not in [
            each["id"] for each in (await up.get("queues/dead/messages"))["messages"]
        ]
        await up.post("queues/dead/redrive", 404, to="nowhere")

    run(body)


def test_a_dead_letter_tells_what_it_failed_by(run):
    async def body(up):
        (message,) = dead_letters(up, "x")
        up.parts.journal.record(
            "log", request_id="r", task_id="t", stackTrace="Traceback\nKeyError"
        )
        up.parts.journal.record("task.failed", request_id="r", task_id="t", message_id=message,
                                errorType="KeyError")  # fmt: skip
        (shown,) = (await up.get("queues/dead/messages"))["messages"]
        assert shown["error"]["type"] == "KeyError"
        assert shown["error"]["traceback"].startswith("Traceback")
        assert shown["source"] == "q"

    run(body)


def test_a_function_is_invoked_and_counted(run):
    async def body(up):
        done = await up.post("functions/echo/invoke", event={"token": "hunter2", "a": 1})
        assert json.loads(done["payload"])["echo"]["a"] == 1
        assert "hunter2" not in done["payload"]
        failed = await up.post("functions/fail/invoke", event={})
        assert (failed["error"], "on purpose" in failed["payload"]) == ("Unhandled", True)
        found = {each["name"]: each for each in (await up.get("functions"))["functions"]}
        assert (found["echo"]["invocations"], found["echo"]["coldStarts"]) == (1, 1)
        assert found["fail"]["errors"] == 1
        assert found["echo"]["concurrency"]["idle"] == 1
        (frozen,) = found["echo"]["environments"]
        assert (frozen["id"], frozen["state"], frozen["invocations"]) == ("1", "frozen", 1)
        assert frozen["memoryMb"] == found["echo"]["maxMemoryMb"] > 0
        assert 0 <= up.parts.clock.time() - frozen["since"] < 60
        await up.post("clock", action="advance", seconds=3600)
        later = (await up.get("functions"))["functions"]
        (still,) = next(each for each in later if each["name"] == "echo")["environments"]
        assert abs(still["since"] - frozen["since"]) < 1
        await up.post("functions/nobody/invoke", 404, event={})

    run(body)


def test_an_event_is_replayed_as_it_was_or_changed(run):
    async def body(up):
        first = await up.post("functions/echo/invoke", event={"requestContext": {"requestId": "x"}})
        again = await up.post("replay", 201, id=first["requestId"])
        assert json.loads(again["payload"])["echo"]["requestContext"]["requestId"] == again["id"]
        changed = await up.post("replay", 201, id=first["requestId"], event={"b": 2})
        assert json.loads(changed["payload"]) == {"echo": {"b": 2}}
        listed = [each["id"] for each in (await up.get("requests"))["requests"]]
        assert listed == [changed["id"], again["id"], first["requestId"]]

    run(body)


def test_a_message_is_replayed_while_the_journal_has_all_of_it(run):
    async def body(up):
        service = queues(up)
        small = service.send("q", NewMessage("small")).id
        large = service.send("q", NewMessage("x" * 20_000)).id
        again = await up.post("replay", 201, id=small)
        assert (await up.get(f"queues/q/messages/{again['id']}"))["body"] == "small"
        assert "no longer holds all" in (await up.post("replay", 410, id=large))["detail"]

    run(body)


def test_tasks_are_listed_run_and_run_again(run):
    async def body(up):
        listed = await up.get("tasks")
        assert [each["name"] for each in listed["tasks"]] == ["work.greet", "work.many"]
        assert listed["problem"] is None
        ran = await up.post("tasks/work.greet/run", 201, args=["ada"], kwargs={"times": 2})
        shown = await up.get("tasks/work.greet")
        assert shown["counts"]["published"] == 1
        assert shown["history"][0]["taskId"] == ran["taskId"]
        assert (await up.get(f"trace/{ran['taskId']}"))["spans"][0]["title"] == "work.greet"
        # The broker of this application is in its memory: no queue of ours saw the message.
        await up.post("replay", 410, id=ran["taskId"])
        problem = await up.post("tasks/work.greet/run", 502, args=[])
        assert "TypeError" in problem["detail"]
        await up.get("tasks/nobody", 404)

    run(body)


def test_a_task_runs_again_with_the_arguments_that_it_had(run):
    async def body(up):
        service = queues(up)
        _, text = task_message("work.greet", ["Grace"], {"times": 3}, task_id="task-aaaa",
                               argsrepr="('***',)")  # fmt: skip
        message = service.send("q", NewMessage(text)).id
        up.parts.journal.record("task.published", task_id="task-aaaa", message_id=message,
                                taskName="work.greet")  # fmt: skip
        again = await up.post("replay", 201, id="task-aaaa")
        assert again["kind"] == "task"
        assert again["id"] != "task-aaaa"
        (first, before) = (await up.get("tasks/work.greet"))["history"]
        assert before["argsHidden"] is True
        assert "Grace" not in json.dumps([first, before])

    run(body)


def test_why_is_answered_from_queues_and_journal(run):
    async def body(up):
        message = queues(up).send("q", NewMessage("x")).id
        answer = await up.get(f"why/{message}")
        assert answer["state"] == "stuck"
        assert answer["reasons"][0]["code"] == "no-mapping"

    run(body)


def test_the_clock_is_moved_and_the_journal_knows(run):
    async def body(up):
        before = (await up.get("clock"))["now"]
        await up.post("clock", action="pause")
        moved = await up.post("clock", action="advance", seconds=3600)
        assert moved["now"] - before >= 3600
        assert moved["paused"] is True
        assert (await up.post("clock", action="step"))["paused"] is True
        assert (await up.post("clock", action="resume"))["paused"] is False
        told = [
            event["data"]["text"] for event in (await up.get("journal", kind="clock"))["events"]
        ]
        assert told[1] == "the clock was advanced by 3600 s"
        await up.post("clock", 400, action="rewind")
        await up.post("clock", 400, action="advance", seconds=-1)
        await up.post("clock", 400, action="advance")

    run(body)


def test_a_fault_is_armed_fires_and_is_cleared(run):
    async def body(up):
        queues(up)
        names = {each["name"] for each in (await up.get("faults"))["catalogue"]}
        assert "send.failed" in names
        assert "store.lost-write" not in names, "it cannot be made in a running emulator"
        armed = await up.post("faults", 201, name="message.poison-body", seed=3)
        await up.post("queues/q/send", 201, body="fine")
        (event,) = (await up.get("journal", kind="fault"))["events"]
        assert (event["data"]["name"], event["data"]["seed"]) == ("message.poison-body", 3)
        (active,) = (await up.get("faults"))["active"]
        assert (active["id"], active["fired"]) == (armed["id"], 1)
        assert (await up.post("faults/clear", id=armed["id"]))["cleared"] == 1
        await up.post("faults", 404, name="store.lost-write")
        await up.post("faults", 400, name="send.failed", parameters={"colour": "red"})
        await up.post("faults", 400, name="send.failed", parameters={"count": "many"})

    run(body)


def test_the_stream_sends_what_happens(run):
    async def body(up):
        async with up.client.stream("GET", "/api/journal/stream", params={"kind": "log"}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            up.parts.journal.record("log", line="now")
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    news = json.loads(line.removeprefix("data: "))
                    break
        assert [event["data"]["line"] for event in news["events"]] == ["now"]

    run(body)
