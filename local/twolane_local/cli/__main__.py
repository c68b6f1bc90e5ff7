"""``python -m twolane_local.cli``, as the console script."""

from __future__ import annotations

import sys

from twolane_local.cli import main

if __name__ == "__main__":
    sys.exit(main())
