"""Code that is no folder yet: an inline text, or a .zip file. Each gets a folder of our own.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-lambda-function-code.html
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
import zipfile
import zlib
from contextlib import suppress
from functools import lru_cache
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from twolane_local.errors import TemplateError

#: Lambda's quota for a package that is unzipped, and a bound for what it may be made of.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_BYTES, MAX_FILES = 262_144_000, 100_000
_PREFIX = "twolane-code-"
#: So long a folder may be there without its lock.
_FRESH_S = 60.0
#: All that ``zipfile`` raises for what is no good archive, or of a kind that it cannot read.
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, LZMAError, EOFError, RuntimeError, ValueError, OSError,
    LookupError,
)  # fmt: skip


class Packages:
    """The folders, below one that is removed in the end. The same code has the same folder."""

    def __init__(self, *, max_files: int = MAX_FILES) -> None:
        self._max_files = max_files
        self._root: Path | None = None
        self._lock = -1
        self._made: set[Path] = set()
        self._used: set[Path] = set()

    def inline(self, owner: str, text: str) -> Path:
        """A folder with the text as ``index.py``, as CloudFormation makes it of ``ZipFile``."""
        code = text.encode("utf-8", "surrogatepass")  # what is no text fails when it is imported
        folder, is_new = self._folder(owner, hashlib.sha256(code))
        if is_new:
            (folder / "index.py").write_bytes(code)
        return folder

    def unpacked(self, owner: str, file: Path) -> Path:
        """A folder with the archive's content; with the file itself where it is a module.

        SAM packs such a file before it uploads it. Raises ``TemplateError``, which says what is
        wrong with the archive but not whose it is.
        """
        try:
            with file.open("rb") as opened:
                folder, is_new = self._folder(owner, hashlib.file_digest(opened, "sha256"))
        except OSError as error:
            raise TemplateError(f"cannot be read: {error}") from error
        if not is_new:
            return folder
        try:
            if file.suffix == ".py":
                shutil.copy(file, folder)
            else:
                _unpack(file, folder, self._max_files)
        except BaseException:
            self._made.remove(folder)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return folder

    def folder(self, name: str) -> Path:
        """Where one of our own may be made, for something else."""
        return self._own_root() / name

    def _own_root(self) -> Path:
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix=_PREFIX))
            self._lock = os.open(self._root, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self._root

    def _folder(self, owner: str, digest: hashlib._Hash) -> tuple[Path, bool]:
        folder = self._own_root() / f"{owner[:64]}-{digest.hexdigest()[:16]}"
        is_new = folder not in self._made
        if is_new:
            folder.mkdir()
            self._made.add(folder)
        return folder, is_new

    def keep(self, used: set[Path]) -> None:
        """Remove what is not used any more, and was not at the last call: work under way then may
        still run.
        """
        for folder in self._made - used - self._used:
            shutil.rmtree(folder, ignore_errors=True)
            self._made.remove(folder)
        self._used = used

    def close(self) -> None:
        """Remove all of it."""
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)
            os.close(self._lock)
        self._root = None
        self._made.clear()


def sweep(folder: Path | None = None, *, now: float | None = None) -> list[Path]:
    """Remove what processes left that were killed: their locks ended with them."""
    removed = []
    for root in (folder or Path(tempfile.gettempdir())).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or locked: it is in use
            if (now or time.time()) - root.stat().st_mtime < _FRESH_S:
                continue
            lock = os.open(root, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(root, ignore_errors=True)
                removed.append(root)
            finally:
                os.close(lock)
    return removed


@lru_cache(maxsize=1)
def for_process() -> Packages:
    """Those of a command that reads a template and runs no emulator; they end with the process."""
    packages = Packages()
    atexit.register(packages.close)
    return packages


def _unpack(file: Path, folder: Path, max_files: int) -> None:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise TemplateError(_too_large(file.stat().st_size))
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check(members, max_files)
            for member in members:
                target = Path(archive.extract(member, folder))
                mode = member.external_attr >> 16
                if stat.S_ISREG(mode) and mode & 0o111:
                    target.chmod(0o755)  # a bootstrap, or what a layer brings along
    except _UNREADABLE as error:
        # AWS: "Could not unzip uploaded file. Please check your file, then try to upload again."
        raise TemplateError(f"cannot be unzipped: {error}") from error


def _check(members: list[zipfile.ZipInfo], max_files: int) -> None:
    """Before anything is written. Of a member no more is read than the size that it states."""
    size = sum(member.file_size for member in members)
    if size > MAX_BYTES:
        raise TemplateError(_too_large(size))
    if len(members) > max_files:
        raise TemplateError(f"holds {len(members)} files; more than {max_files} are not unzipped")
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise TemplateError(f"holds {member.filename!r}, which leads out of its folder")


def _too_large(size: int) -> str:
    return f"has {size} bytes unzipped; Lambda takes no more than {MAX_BYTES}"
