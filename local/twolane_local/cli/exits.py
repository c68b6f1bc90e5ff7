"""Exit codes, the same for every command; docs/commands.md has them."""

from __future__ import annotations

DONE = 0
#: It ran, and the answer is no: a function failed, a check found something, nothing has that id.
NO = 1
#: It could not be done; what happened and what to do is on stderr. Wrong usage ends so as well.
ERROR = 2
#: Nothing was changed, since nobody said yes.
UNCONFIRMED = 3
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PIPE_CLOSED = 141  # 128 + SIGPIPE: `twolane tail | head`

MEANINGS = {
    DONE: "done",
    NO: "it ran, and the answer is no: the function failed, a check found something, nothing has "
    "that id, a message could not be redriven",
    ERROR: "it could not be done: wrong usage, no emulator is running, AWS refused; stderr says "
    "what to do",
    UNCONFIRMED: "nothing was changed, since nobody said yes: add `--yes`",
    INTERRUPTED: "interrupted by Ctrl-C",
    PIPE_CLOSED: "the reader of the output went away, as in `twolane tail | head`",
}
