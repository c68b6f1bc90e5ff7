"""Types a line and a tab into a real zsh, and prints what its screen then shows."""

from __future__ import annotations

import os
import pty
import re
import select
import sys
import tempfile
from pathlib import Path

path, typed = Path(sys.argv[1]), sys.argv[2]
END = "zsh-is-done"


def read_until(descriptor: int, wanted: str, silence_s: float) -> str:
    """What comes until ``wanted`` does, or nothing more for so long."""
    text = ""
    while wanted not in text and select.select([descriptor], [], [], silence_s)[0]:
        try:
            text += os.read(descriptor, 65536).decode(errors="replace")
        except OSError:  # zsh has ended
            break
    return text


with tempfile.TemporaryDirectory() as home:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(HOME=home, ZDOTDIR=home, TERM="dumb", COLUMNS="200", LINES="100")
        os.execvp("zsh", ["zsh", "-f", "-i"])
    lines = [
        f"fpath=({path.parent} $fpath)",
        "autoload -Uz compinit && compinit -u -d $HOME/dump",
        "zstyle ':completion:*' list-prompt ''",
        "unsetopt prompt_cr prompt_sp; setopt auto_list no_list_beep no_list_ambiguous; PS1='> '",
        "LISTMAX=10000; zmodload zsh/complist; bindkey '^I' list-choices",
        "stty cols 200 rows 100",
        "print re''ady",
    ]
    os.write(terminal, ("\n".join(lines) + "\n").encode())
    read_until(terminal, "ready", 15)
    os.write(terminal, typed.encode() + b"\t")
    shown = read_until(terminal, END, 0.7)
    os.write(terminal, b"\x15exit\n")
    read_until(terminal, END, 0.5)
    os.waitpid(pid, 0)
sys.stdout.write(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", " ", shown))
