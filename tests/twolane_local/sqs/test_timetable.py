from __future__ import annotations

import random

from twolane_local.aws.sqs.queue import Timetable


class Item:
    def __init__(self, name):
        self.name, self.epoch = name, 0


def due(timetable, now):
    found = []
    while (item := timetable.pop_due(now)) is not None:
        found.append(item.name)
    return found


def test_items_come_up_in_the_order_of_their_times_and_then_of_adding():
    timetable = Timetable()
    for at, name in ((3, "c"), (1, "a"), (2, "b1"), (2, "b2")):
        timetable.add(at, Item(name))
    assert timetable.next_at() == 1
    assert due(timetable, 2) == ["a", "b1", "b2"]
    assert due(timetable, 2) == []
    assert timetable.next_at() == 3


def test_an_item_that_was_called_off_does_not_come_up():
    timetable = Timetable()
    item = Item("a")
    timetable.add(1, item)
    item.epoch += 1
    timetable.call_off()
    timetable.add(5, item)
    assert timetable.next_at() == 5
    assert due(timetable, 9) == ["a"]
    assert timetable.next_at() is None


def test_what_is_called_off_does_not_pile_up():
    timetable = Timetable()
    keep = [Item(str(number)) for number in range(100)]
    for item in keep:
        timetable.add(1_000, item)
    for _ in range(10_000):
        item = Item("gone")
        timetable.add(500, item)
        item.epoch += 1
        timetable.call_off()
        assert len(timetable) < 350
    assert due(timetable, 1_000) == [item.name for item in keep]


def test_against_a_plain_list():
    rng, timetable, model, now = random.Random(2), Timetable(), {}, 0.0
    for step in range(5_000):
        if rng.random() < 0.6:
            item, at = Item(step), now + rng.random() * 10
            timetable.add(at, item)
            model[step] = (at, step, item)
        elif model and rng.random() < 0.5:
            _, _, item = model.pop(rng.choice(list(model)))
            item.epoch += 1
            timetable.call_off()
        else:
            now += rng.random()
            expected = sorted(entry[:2] for entry in model.values() if entry[0] <= now)
            assert due(timetable, now) == [name for _, name in expected]
            for _, name in expected:
                del model[name]
