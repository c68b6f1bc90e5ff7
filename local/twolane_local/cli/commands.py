"""Every command, by name, with its line in the help, in the groups in which the help shows them.

The module of the same name in this package runs it, and is imported only then. It has
``configure(parser)``, ``run(options) -> int`` with the exit codes of ``exits``, ``EXAMPLES`` (whole
command lines, which a test parses and the help shows), and may have ``FLAGS``: which of
``flags.SETS`` it takes; ``("template", "emulator")`` where it does not say.
"""

from __future__ import annotations

GROUPS: dict[str, dict[str, str]] = {
    "run": {
        "up": "Start everything that the template asks for, on this machine.",
        "invoke": "Invoke one function once, print its response.",
        "env": "Print the exports that point the AWS tools at the emulator.",
        "template": "Print the template expanded to CloudFormation.",
    },
    "see": {
        "trace": "One request, task or message over both lanes, as a waterfall.",
        "tail": "What happens, as it happens, or what has happened.",
        "tasks": "Tasks by name: counts, durations, failures; the runs of one.",
        "queues": "Depth, in flight, oldest, dead letters, and who reads them.",
        "messages": "What is on a queue, decoded as tasks.",
        "functions": "Functions and their execution environments.",
    },
    "act": {
        "send": "Send a task, as .delay() does.",
        "replay": "Run a task, a message or a request again, edited if wanted.",
        "dlq": "Dead letters: list, show, redrive or purge them as tasks.",
        "schedules": "List what beat sends next, send one now, write them out.",
    },
    "check": {
        "lint": "What is wrong with the template, with lines and fixes.",
        "advise": "Which lane each piece of work belongs in, and what it costs.",
        "simulate": "Random schedules with faults against the application.",
        "doctor": "What is wrong with this machine or project, and what to do.",
        "completion": "Print the completion script of bash, zsh or fish.",
    },
}

COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}
