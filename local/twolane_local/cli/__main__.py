"""``python -m twolane_local.cli``: the ``twolane`` command."""

from __future__ import annotations

import sys

from twolane_local.cli import main

if __name__ == "__main__":
    sys.exit(main())
