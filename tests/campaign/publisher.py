"""A stock publisher: Celery and kombu's SQS transport, in a process without twolane.

``publisher.py SOURCE``: each line of stdin is a unit; each line of stdout says whether it was sent.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    import campaign_units

    for line in sys.stdin:
        unit = json.loads(line)
        try:
            campaign_units.send(unit)
            answer = {"unit": unit["unit"], "sent": True}
        except Exception as error:  # noqa: BLE001 - the driver is told, and judges
            answer = {"unit": unit["unit"], "sent": False, "error": repr(error)[:300]}
        if any(name.partition(".")[0].startswith("twolane") for name in sys.modules):
            answer = {"unit": unit["unit"], "sent": False, "error": "twolane is in the publisher"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
