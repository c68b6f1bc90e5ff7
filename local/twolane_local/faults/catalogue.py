"""Every fault by name. ``docs/faults.md`` says for each what stays true, and what shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.faults.kinds import EMULATOR, LIVE, VIRTUAL, Kind, Parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

_INSIDE = (VIRTUAL, LIVE)
_BOTH = (VIRTUAL, EMULATOR)
_AFTER_S = Parameter("after_s", 1.0, "after how many seconds")

_KINDS = (
    # The execution environment, as a whole.
    Kind("environment.killed-at-start", "The environment dies before its handler is called: "
         "nothing of the event has run.", "invoke", where=(VIRTUAL, EMULATOR, LIVE)),
    Kind("environment.killed-before-task", "The environment dies when the task's code is about to "
         "run: its lease is taken, nothing has happened.", "task.begins", where=_INSIDE),
    Kind("environment.killed-during-task", "The environment dies inside the task, before its "
         "effect.", "effect.before", where=_INSIDE),
    Kind("environment.killed-after-effect", "The environment dies after the task's effect and "
         "before its result is stored.", "effect.after", where=_INSIDE),
    Kind("environment.killed-after-result", "The environment dies after the result is stored and "
         "before the mapping deletes the message.", "result.stored", where=_INSIDE),
    Kind("environment.killed-after-task", "The environment dies once its handler has returned: "
         "the mapping never hears the answer.", "answer", where=(VIRTUAL, EMULATOR)),
    Kind("environment.frozen", "The environment stands still inside the task, beyond the "
         "visibility timeout, and then goes on.", "effect.before",
         (Parameter("freeze_s", 400.0, "for how many seconds"),), where=_INSIDE),
    Kind("environment.frozen-after-effect", "The environment stands still between the task's "
         "effect and its result, beyond the visibility timeout, and then goes on.", "effect.after",
         (Parameter("freeze_s", 400.0, "for how many seconds"),), where=_INSIDE),
    Kind("environment.timeout", "The task hangs until Lambda's function timeout.", "effect.before",
         (Parameter("hang_s", 600.0, "for how many seconds"),), where=_INSIDE),
    Kind("environment.out-of-memory", "The environment is killed for using too much memory, "
         "inside the task.", "effect.before", where=_INSIDE),
    Kind("task.memory-error", "Python cannot allocate, and the task raises MemoryError.",
         "effect.before", where=_INSIDE),
    Kind("task.slow", "The task takes longer.", "effect.before",
         (Parameter("seconds", 5.0, "by how many seconds"),), where=_INSIDE),
    # The invocation and its answer.
    Kind("invocation.throttled", "Lambda has no concurrency left for the function.", "invoke",
         where=_BOTH),
    Kind("invocation.slow", "The invocation begins late.", "invoke", (_AFTER_S,), where=_BOTH),
    Kind("response.partial-batch", "The answer names a message as failed whose work was done.",
         "answer.batch", where=_BOTH),
    Kind("response.malformed", "The answer names a message that is not of the batch: the whole "
         "batch counts as failed.", "answer.batch", where=_BOTH),
    Kind("response.not-json", "The answer is not JSON.", "answer.batch", where=_BOTH),
    # SQS.
    Kind("queue.duplicate-delivery", "SQS says that a message is deleted, and delivers it again.",
         "delete", (_AFTER_S,), where=_BOTH),
    Kind("queue.two-deliveries-at-once", "SQS delivers a message a second time while the first "
         "delivery is under way.", "receive", where=_BOTH),
    Kind("queue.reordered", "A message is overtaken by those sent after it.", "send",
         (Parameter("hold_s", 5.0, "for how many seconds"),), where=_BOTH),
    Kind("send.failed", "SQS does not take a message.", "send", where=_BOTH),
    Kind("send.reply-lost", "SQS takes a message, and the sender does not hear of it.", "send",
         where=_BOTH),
    Kind("receive.failed", "SQS does not answer the mapping's poll.", "receive", where=_BOTH),
    Kind("receive.reply-lost", "Messages are received, and the mapping does not get them.",
         "receive", where=_BOTH),
    Kind("delete.failed", "SQS does not delete a message whose work is done.", "delete",
         where=_BOTH),
    Kind("delete.reply-lost", "SQS deletes a message, and the mapping does not hear of it.",
         "delete", where=_BOTH),
    Kind("visibility.failed", "SQS does not change a message's visibility timeout.", "visibility",
         where=_BOTH),
    # The message.
    Kind("message.unknown-task", "A deploy has removed the task that a message names.", "send",
         where=_BOTH),
    Kind("message.changed-signature", "A deploy has changed the signature of the task that a "
         "message names.", "send", where=_BOTH),
    Kind("message.poison-body", "A message's body is no task at all.", "send", where=_BOTH),
    Kind("message.truncated", "A message's body ends in the middle.", "send", where=_BOTH),
    Kind("message.at-the-limit", "A message is as big as SQS takes: 1 MiB.", "send", where=_BOTH),
    # The result store.
    Kind("store.down", "The result store does not answer.", "store", where=(VIRTUAL, LIVE)),
    Kind("store.slow", "The result store answers late.", "store",
         (Parameter("seconds", 1.0, "by how many seconds"),), where=(VIRTUAL, LIVE)),
    Kind("store.reply-lost", "The result store does what it is told, and its answer is lost.",
         "store.done", where=(VIRTUAL, LIVE)),
    Kind("store.lost-write", "The result store fails over and has lost a write that it had "
         "acknowledged.", "store.write", where=(VIRTUAL,)),
    # Time.
    Kind("clock.skewed", "The environment's clock is wrong.", "clock",
         (Parameter("seconds", 30.0, "by how many seconds; negative: behind"),), where=(VIRTUAL,)),
    Kind("tick.doubled", "A schedule fires twice.", "tick", where=_BOTH),
    Kind("tick.missed", "A schedule does not fire.", "tick", where=_BOTH),
    Kind("tick.late", "A schedule fires late.", "tick", (_AFTER_S,), where=_BOTH),
)  # fmt: skip

#: Name → kind.
CATALOGUE: Mapping[str, Kind] = {kind.name: kind for kind in _KINDS}
