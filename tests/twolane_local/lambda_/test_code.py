"""Archives as they come: damaged, nameless, too many files; and which folders are kept."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from twolane_local.aws.lambda_.code import ArchiveError, UnpackedCode, remove_abandoned

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def made() -> Iterator[UnpackedCode]:
    made = UnpackedCode()
    yield made
    made.close()


def archive(members: dict[str, str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as opened:
        for name, text in members.items():
            opened.writestr(name, text)
    return content.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")  # of zipfile, at a doubled name
def test_a_damaged_archive_is_refused_whatever_is_wrong_with_it(
    made: UnpackedCode, tmp_path: Path
) -> None:
    rng = random.Random(7)
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    whole = [archive({"a/b.py": "x = 1\n" * 50, "c.py": "y" * 99}, kind) for kind in kinds]
    file = tmp_path / "a.zip"
    refused = 0
    for _ in range(300):
        damaged = bytearray(rng.choice(whole))
        for _ in range(rng.randint(1, 6)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        file.write_bytes(damaged)
        try:
            made.archive("F", file)
        except ArchiveError:
            refused += 1
    assert 100 < refused < 300


def test_a_member_without_a_name_is_refused(made: UnpackedCode, tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_bytes(archive({"name": "text"}).replace(b"name", b"\0ame"))
    with pytest.raises(ArchiveError, match="cannot be unzipped"):
        made.archive("F", file)


def test_many_empty_files_are_refused(tmp_path: Path) -> None:
    made = UnpackedCode(max_files=3)
    file = tmp_path / "a.zip"
    file.write_bytes(archive(dict.fromkeys("abcd", "")))
    with pytest.raises(ArchiveError, match="holds 4 files; more than 3"):
        made.archive("F", file)
    made.close()


def test_a_module_is_packed_alone(made: UnpackedCode, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("x = 1")
    folder = made.archive("F", tmp_path / "app.py")
    assert [file.name for file in folder.iterdir()] == ["app.py"]


def test_what_was_used_last_is_kept_and_what_came_to_nothing_is_not(made: UnpackedCode) -> None:
    first = made.inline("F", "1")
    made.keep({first})
    given_up = made.inline("F", "2")  # its template was refused for something else
    second = made.inline("F", "3")
    made.keep({second})
    assert (first.is_dir(), given_up.is_dir(), second.is_dir()) == (True, False, True)
    assert made.inline("F", "1") == first
    made.keep({second})
    assert (first.is_dir(), second.is_dir()) == (False, True)


def test_what_a_killed_process_left_is_swept_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from twolane_local.aws.lambda_.code import UnpackedCode\n"
        "print(UnpackedCode().inline('Bell', 'x = 1').parent, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        root = Path(process.stdout.readline().strip())
        later = root.stat().st_mtime + 120
        assert remove_abandoned(tmp_path, now=later) == []
        process.kill()
        process.wait()
    assert remove_abandoned(tmp_path, now=later - 100) == []  # it may be too young to have its lock
    assert remove_abandoned(tmp_path, now=later) == [root]
    assert not root.exists()
