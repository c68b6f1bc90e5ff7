"""Code in archives: unpacks it into folders of its owner, and keeps what the API was given.

https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import io
import os
import shutil
import stat
import tempfile
import threading
import time
import zipfile
import zlib
from contextlib import suppress
from functools import lru_cache
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator


class ArchiveError(LocalError):
    """An archive cannot be unpacked; the message says why, without its name."""


#: Lambda's quota for an unzipped package, and our own limit for its number of files.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_BYTES, MAX_FILES = 262_144_000, 100_000
_PREFIX = "twolane-code-"
#: A folder of this age may not have its lock yet.
_FRESH_S = 60.0
#: Everything that ``zipfile`` raises for a damaged archive, or for one of an unknown kind.
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, LZMAError, EOFError, RuntimeError, ValueError, OSError,
    LookupError,
)  # fmt: skip


class UnpackedCode:
    """Folders for code that is not a folder yet, in a temporary one that ``close`` removes.

    The same code has the same folder.
    """

    def __init__(self, *, max_files: int = MAX_FILES) -> None:
        self._max_files = max_files
        self._root: Path | None = None
        self._lock = -1
        self._making = threading.Lock()  # it is used on several threads
        self._made: set[Path] = set()
        self._used: set[Path] = set()

    def inline(self, owner: str, text: str) -> Path:
        """Return a folder with the text as ``index.py``, as CloudFormation does for ``ZipFile``."""
        code = text.encode("utf-8", "surrogatepass")  # invalid text fails when it is imported
        folder, is_new = self._folder(owner, hashlib.sha256(code))
        if is_new:
            (folder / "index.py").write_bytes(code)
        return folder

    def archive(self, owner: str, file: Path) -> Path:
        """Return a folder with the archive's content, or with the file itself if it is a module.

        SAM zips such a module before the upload. Raises ``ArchiveError`` with the problem only;
        the caller adds the name of the resource.
        """
        try:
            with file.open("rb") as opened:
                folder, is_new = self._folder(owner, hashlib.file_digest(opened, "sha256"))
        except OSError as error:
            raise ArchiveError(f"cannot be read: {error}") from error
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
        """Return a path in the temporary folder for another use."""
        return self._own_root() / name

    def _own_root(self) -> Path:
        with self._making:
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
        """Remove folders that are in neither this call's ``used`` nor the last one's.

        Invocations that began before a change may still run in the last one's folders.
        """
        for folder in self._made - used - self._used:
            shutil.rmtree(folder, ignore_errors=True)
            self._made.remove(folder)
        self._used = used

    def close(self) -> None:
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)
            os.close(self._lock)
        self._root = None
        self._made.clear()


class CodeStore:
    """The archives that the API was given, each in a file that only its owner can read."""

    def __init__(self, unpacked: UnpackedCode, folder: Path | None = None) -> None:
        """Without a folder, the archives end with ``unpacked``."""
        self._unpacked, self._folder = unpacked, folder
        self._packed: dict[Path, tuple[object, str, int]] = {}
        self._packing = threading.Lock()

    @property
    def nowhere(self) -> Path:
        """A folder that does not exist, for code that is not there."""
        return self._unpacked.folder("nowhere")

    def _file(self, digest: str) -> Path:
        if self._folder is None:
            return self._temporary(digest)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._folder / f"{digest}.zip"

    def add(self, archive: bytes) -> str:
        """Keep an archive that can be unpacked; returns the SHA-256 of it as digits.

        Raises ``ArchiveError``.
        """
        digest = hashlib.sha256(archive).hexdigest()
        file = self._file(digest)
        if not file.exists():
            # Written aside and renamed, so that an existing file is always complete.
            descriptor, aside = tempfile.mkstemp(prefix=".making-", dir=file.parent)
            try:
                with open(descriptor, "wb") as out:  # noqa: PTH123 (a descriptor)
                    out.write(archive)
                self._unpacked.archive(digest[:8], Path(aside))
                Path(aside).replace(file)
            finally:
                Path(aside).unlink(missing_ok=True)
        return digest

    def add_folder(self, folder: Path) -> tuple[str, int]:
        """Keep a folder's content as an archive; returns its digest and size."""
        archive = packed(folder)
        return self.add(archive), len(archive)

    def packed(self, folder: Path) -> tuple[str, int]:
        """The digest and size of a folder's content as an archive, which ``archive`` returns."""
        with self._packing:
            about = tuple((str(file), file.stat().st_mtime_ns) for file in _files(folder))
            known = self._packed.get(folder)
            if known is None or known[0] != about:
                content = packed(folder)
                digest = hashlib.sha256(content).hexdigest()
                self._temporary(digest).write_bytes(content)
                known = self._packed[folder] = about, digest, len(content)
            return known[1:]

    def _temporary(self, digest: str) -> Path:
        folder = self._unpacked.folder("archives")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / f"{digest}.zip"

    def unpacked(self, digest: str) -> Path:
        """The folder with the content of an archive; raises ``ArchiveError``."""
        return self._unpacked.archive(digest[:8], self._file(digest))

    def archive(self, digest: str) -> bytes | None:
        """An archive that was added or packed."""
        for file in (self._file(digest), self._temporary(digest)):
            with suppress(OSError):
                return file.read_bytes()
        return None

    def keep(self, digests: set[str]) -> None:
        """Remove what was added, apart from these."""
        for file in self._file("").parent.glob("*.zip"):
            if file.stem not in {*digests, *(digest for _, digest, _ in self._packed.values())}:
                file.unlink(missing_ok=True)


#: Folders and files that a deployment package leaves out.
_NOT_PACKED = frozenset({"__pycache__", ".git", ".venv", "node_modules", ".mypy_cache"})


def _files(folder: Path) -> Iterator[Path]:
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _NOT_PACKED)
        yield from (file for name in sorted(names) if (file := Path(base, name)).is_file())


def packed(folder: Path) -> bytes:
    """A folder as an archive; the same content gives the same archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for file in _files(folder):
            member = zipfile.ZipInfo(file.relative_to(folder).as_posix())
            member.external_attr = file.stat().st_mode << 16
            archive.writestr(member, file.read_bytes(), zipfile.ZIP_DEFLATED, 1)
    return out.getvalue()


def remove_abandoned(folder: Path | None = None, *, now: float | None = None) -> list[Path]:
    """Remove the folders of killed processes, whose locks ended with them."""
    removed = []
    for root in (folder or Path(tempfile.gettempdir())).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or locked because it is in use
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
def process_folders() -> UnpackedCode:
    """Return the folders of a command that runs no emulator; they end with the process."""
    unpacked = UnpackedCode()
    atexit.register(unpacked.close)
    return unpacked


def _unpack(file: Path, folder: Path, max_files: int) -> None:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ArchiveError(_too_large(file.stat().st_size))
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check(members, max_files)
            for member in members:
                target = Path(archive.extract(member, folder))
                mode = member.external_attr >> 16
                if stat.S_ISREG(mode) and mode & 0o111:
                    target.chmod(0o755)  # a bootstrap, or a program in a layer
    except _UNREADABLE as error:
        # AWS: "Could not unzip uploaded file. Please check your file, then try to upload again."
        raise ArchiveError(f"cannot be unzipped: {error}") from error


def _check(members: list[zipfile.ZipInfo], max_files: int) -> None:
    """Refuse an archive before anything is written.

    ``zipfile`` reads no more of a member than the size that the member states.
    """
    size = sum(member.file_size for member in members)
    if size > MAX_BYTES:
        raise ArchiveError(_too_large(size))
    if len(members) > max_files:
        raise ArchiveError(f"holds {len(members)} files; more than {max_files} are not unzipped")
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise ArchiveError(f"holds {member.filename!r}, which leads out of its folder")


def _too_large(size: int) -> str:
    return f"has {size} bytes unzipped; Lambda takes no more than {MAX_BYTES}"
