"""docs/faults.md lists each fault, what it endangers, what a user sees, and the test that shows it.

``python tests/faults/test_page.py`` writes the page's tables anew from the matrix.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "local"))
from matrix import MATRIX

from twolane_local.faults.injection import CATALOGUE

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- matrix -->\n", "<!-- end of matrix -->"


def table() -> str:
    live = _live()
    lines = [
        "| fault | what goes wrong | invariants | what a user sees | test |",
        "|---|---|---|---|---|",
    ]
    for row in MATRIX:
        case = f" ({row.case})" if row.case else ""
        test = f"`test_matrix.py::test_row[{row.id}]`"
        if row.fault.name in live and not row.case:
            test += f", `test_live.py::test_live[{row.fault.name}]`"
        if row.fault.name in live and row.fault.name == "store.down" and row.case == "leases":
            test += f", `test_live.py::test_live[{row.fault.name}]`"
        what = CATALOGUE[row.fault.name].text
        name = f"`{row.fault.name}`{case}"
        lines.append(f"| {name} | {what} | {' '.join(row.invariants)} | {row.sees} | {test} |")
    return "\n".join(lines) + "\n"


def _live() -> set[str]:
    text = (Path(__file__).parent / "test_live.py").read_text()
    return {name for name in CATALOGUE if f'"{name}"' in text}


def written(page: str) -> str:
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


def test_the_page_and_the_matrix_are_equal() -> None:
    page = PAGE.read_text()
    assert page == written(page), "run `python tests/faults/test_page.py` and commit the page"


def test_the_ten_worst_are_shown_live() -> None:
    from test_live import LIVE

    assert len(LIVE) >= 10
    assert _live() == set(LIVE)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
