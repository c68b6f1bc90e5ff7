from __future__ import annotations

import os
from pathlib import Path

import pytest

from twolane_local.aws.lambda_ import report


def test_a_report_line() -> None:
    """The example of https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html"""
    line = report.Report(2.131, 128, 55, 113.5).line("r-1")
    assert line == (
        b"REPORT RequestId: r-1\tDuration: 2.13 ms\tBilled Duration: 116 ms\tMemory Size: 128 MB\t"
        b"Max Memory Used: 55 MB\tInit Duration: 113.50 ms\t\n"
    )
    assert b"Init" not in report.Report(2.0, 128, 55, None).line("r-1")
    assert report.Report(2.0, 128, 55, None).billed_ms == 2


@pytest.mark.parametrize(
    ("status", "words"),
    [(1, "exit status 1"), (-9, "signal: killed"), (-11, "signal: segmentation fault")],
)
def test_an_exit(status: int, words: str) -> None:
    assert report.exited("r", status).decode().endswith(f'Runtime exited with error: {words}"}}')


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc")
def test_memory_of_a_process() -> None:
    assert 5 < report.memory_mb(os.getpid()) <= report.peak_memory_mb(os.getpid())
    assert report.memory_mb(2**22 + 1) == report.peak_memory_mb(2**22 + 1) == 0
