"""A CSV of recipients, read row by row."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import EmailStr, TypeAdapter, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How many bad rows a report names; the others are only counted.
ERRORS_SHOWN = 20
_EMAIL: TypeAdapter[str] = TypeAdapter(EmailStr)


class UnusableFileError(ValueError):
    """The file as a whole cannot be read as recipients."""


@dataclass
class Report:
    """What became of the rows so far."""

    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    errors: list[dict[str, str | int]] = field(default_factory=list)

    def reject(self, line: int, reason: str) -> None:
        """Count a bad row; the first ``ERRORS_SHOWN`` are named by their line in the file."""
        self.rejected += 1
        if len(self.errors) < ERRORS_SHOWN:
            self.errors.append({"line": line, "error": reason})


def read(text: str) -> tuple[int, Iterator[Report]]:
    """The number of rows, and the one growing report, once after each row.

    The first line names the columns; ``email`` must be one of them.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if "email" not in (reader.fieldnames or ()):
            raise UnusableFileError("the first line must name the columns, and one must be `email`")
        rows = [(reader.line_num, row.get("email") or "") for row in reader]
    except csv.Error as error:
        raise UnusableFileError(f"after line {reader.line_num}: {error}") from error
    return len(rows), _check(rows)


def _check(rows: list[tuple[int, str]]) -> Iterator[Report]:
    report, seen = Report(), set[str]()
    for line, value in rows:
        report.rows += 1
        try:
            email = _EMAIL.validate_python(value.strip()).lower()
        except ValidationError as error:
            report.reject(line, error.errors()[0]["msg"])
        else:
            if email in seen:
                report.reject(line, f"{email} stands in the file twice")
            else:
                seen.add(email)
                report.accepted += 1
        yield report
