"""The ``twolane`` command where the local layer is not installed: says what to install.

The script belongs to this distribution, and the commands to ``twolane-local``. No function imports
this module.
"""

from __future__ import annotations

import importlib
import sys
from importlib import metadata, util

#: As the commands exit when one of them fails.
_ERROR = 2


def main() -> int:
    """Run a command of ``twolane-local``; return its exit code."""
    if util.find_spec("twolane_local") is not None:
        code: int = importlib.import_module("twolane_local.cli").main()
        return code
    version = metadata.version("twolane")
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"twolane {version}\n")
        return 0
    command = " ".join(["twolane", *sys.argv[1:2]])
    sys.stderr.write(
        f"! `{command}` is a command of twolane-local, which is not installed here; twolane alone "
        f"is what functions ship. Install it: {sys.executable} -m pip install "
        f"twolane-local=={version}\n"
    )
    return _ERROR


if __name__ == "__main__":
    sys.exit(main())
