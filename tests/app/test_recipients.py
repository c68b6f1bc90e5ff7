from __future__ import annotations

import pytest

from app.recipients import ERRORS_SHOWN, Report, UnusableFileError, read


def last(text: str) -> Report:
    total, reports = read(text)
    grown = list(reports)
    assert len(grown) == total
    return grown[-1] if grown else Report()


def test_rows_are_checked_one_by_one() -> None:
    report = last(
        "name,email\r\n"
        "Ann,ann@example.com\r\n"
        "Bob,not an address\r\n"
        "Cas, cas@example.com \r\n"
        "Ann again,ANN@example.com\r\n"
        "Nobody\r\n"
    )
    assert (report.rows, report.accepted, report.rejected) == (5, 2, 3)
    assert [error["line"] for error in report.errors] == [3, 5, 6]
    assert "@-sign" in str(report.errors[0]["error"])
    assert report.errors[1]["error"] == "ann@example.com stands in the file twice"


def test_a_quoted_field_may_hold_line_ends() -> None:
    report = last('name,email\n"Ann\nthe Great",ann@example.com\nBob,bad\n')
    assert (report.accepted, report.errors[0]["line"]) == (1, 4)


def test_all_bad_rows_are_counted_and_the_first_named() -> None:
    report = last("email\n" + "bad\n" * 50)
    assert report.rejected == 50
    assert len(report.errors) == ERRORS_SHOWN


def test_no_rows_are_no_error() -> None:
    assert last("email\n") == Report()


@pytest.mark.parametrize("text", ["", "name\nAnn\n", "\n"])
def test_a_file_without_addresses_is_refused(text: str) -> None:
    with pytest.raises(UnusableFileError, match="`email`"):
        read(text)


@pytest.mark.parametrize("text", ['email\n"never closed\n', '"email\n'])
def test_a_broken_row_is_named(text: str) -> None:
    with pytest.raises(UnusableFileError, match="unexpected end"):
        read(text)
