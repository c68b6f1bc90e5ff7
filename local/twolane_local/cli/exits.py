"""Exit codes of all commands, as in docs/commands.md."""

from __future__ import annotations

DONE = 0
#: It ran, and the answer is no: a function failed, a check found something, nothing has that id.
NO = 1
#: It failed; stderr says what happened and what to do. Also the code of argparse for wrong usage.
ERROR = 2
#: Nothing was changed, since nobody confirmed it.
UNCONFIRMED = 3
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PIPE_CLOSED = 141  # 128 + SIGPIPE: `twolane tail | head`

MEANINGS = {
    DONE: "done",
    NO: "it ran, and the answer is no: the function failed, a check found something, nothing has "
    "that id, a message could not be redriven",
    ERROR: "it failed: wrong usage, no emulator is running, an error from AWS; stderr says what to "
    "do",
    UNCONFIRMED: "nothing was changed, since nobody confirmed it: add `--yes`",
    INTERRUPTED: "interrupted by Ctrl-C",
    PIPE_CLOSED: "the reader of the output ended, as in `twolane tail | head`",
}
