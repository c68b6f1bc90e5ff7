"""Reads the Lambda functions and layers of an expanded template, and unpacks their code.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-lambda-function.html
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
from dataclasses import dataclass
from functools import lru_cache
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from twolane_local.aws.invocation import LATEST, target_of
from twolane_local.errors import TemplateError
from twolane_local.model import FunctionSpec
from twolane_local.template import code_location
from twolane_local.template.nested import LOCAL_BUCKET
from twolane_local.template.parameters import as_text
from twolane_local.template.shape import check_function

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from twolane_local.template import Template
    from twolane_local.template.names import Names
    from twolane_local.template.notes import Notes
    from twolane_local.template.sources import FileSystems


def read_functions(
    template: Template,
    names: Names,
    unpacked: UnpackedCode,
    file_systems: FileSystems,
    notes: Notes,
) -> Iterator[FunctionSpec]:
    """Yield every function, also those that cannot run on this machine."""
    root = template.source.path.resolve().parent
    invoke_configs: dict[tuple[str, str], Any] = {}
    for _, raw in template.of_type("AWS::Lambda::EventInvokeConfig"):
        properties = names.resolve(dict(raw))
        name, _, qualifier = target_of(str(properties["FunctionName"])).partition(":")
        invoke_configs[name, str(properties.get("Qualifier") or qualifier or LATEST)] = properties
    all_layers = _Layers(template, names, unpacked, notes)
    # Aliases and versions; the current code is version 1:
    # https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-lambda-alias.html
    qualifiers: dict[str, tuple[str, ...]] = {}
    for logical_id, resource in template.resources.items():
        if resource["Type"] in {"AWS::Lambda::Version", "AWS::Lambda::Alias"}:
            function, _, qualifier = str(names.ref(logical_id)).rpartition(":")
            name = function.rpartition(":")[2]
            qualifiers[name] = (*qualifiers.get(name, ()), qualifier)
    for logical_id, raw in template.of_type("AWS::Lambda::Function"):
        properties = names.resolve(dict(raw))
        code = code_location(properties.get("Code") or {})
        check_function({**properties, "Code": code})
        why = _unrunnable(properties, code)
        if why:
            notes.cannot_run(logical_id, why)
            code_dir, made_of = root, None
        else:
            code_dir, made_of = _code_dir(template, logical_id, code, root, unpacked)
        name = names.name(logical_id)
        layers = all_layers.of(logical_id, properties.get("Layers") or ())
        yield FunctionSpec(
            name=name,
            logical_id=logical_id,
            handler=str(properties.get("Handler", "bootstrap")),
            code_dir=code_dir,
            made_of=made_of,
            unrunnable=why or "",
            where=template.source.where(logical_id),
            runtime=str(properties.get("Runtime", "")),
            timeout_s=float(properties.get("Timeout", 3)),
            memory_mb=int(properties.get("MemorySize", 128)),
            environment={
                key: as_text(value)
                for key, value in (
                    (properties.get("Environment") or {}).get("Variables") or {}
                ).items()
            },
            layer_dirs=tuple(each.folder for each in layers if each.folder),
            layer_sources=tuple(each.sources for each in layers if each.sources),
            file_systems=file_systems.of(properties.get("FileSystemConfigs") or ()),
            archives=tuple(each.archive for each in layers if each.archive),
            reserved_concurrency=(
                int(properties["ReservedConcurrentExecutions"])
                if "ReservedConcurrentExecutions" in properties
                else None
            ),
            event_invoke=invoke_configs.get((name, LATEST), {}),
            qualified_invoke={
                each: config
                for (of, each), config in invoke_configs.items()
                if of == name and each != LATEST
            },
            log_format=str((properties.get("LoggingConfig") or {}).get("LogFormat", "Text")),
            recursive_loop=str(properties.get("RecursiveLoop", "Terminate")),
            qualifiers=qualifiers.get(name, ()),
            snap_start=bool(
                qualifiers.get(name)
                and (properties.get("SnapStart") or {}).get("ApplyOn") == "PublishedVersions"
            ),
            dead_letter_arn=(properties.get("DeadLetterConfig") or {}).get("TargetArn"),
        )


def _unrunnable(properties: Mapping[str, Any], code: Mapping[str, Any]) -> str | None:
    if properties.get("PackageType") == "Image" or "ImageUri" in code:
        return "it is a container image, which is not run"
    runtime = str(properties.get("Runtime", ""))
    if not runtime.startswith(("python", "provided")):
        return f"runtime {runtime or 'missing'!r} is neither Python nor OS-only"
    if "ZipFile" not in code and code.get("S3Bucket") != LOCAL_BUCKET:
        return "its code is not a path on this machine"
    return None


def _code_dir(
    template: Template, logical_id: str, code: Mapping[str, Any], root: Path, unpacked: UnpackedCode
) -> tuple[Path, Path | None]:
    """Return the folder with the code, and the file that it is made from."""
    where = template.source.where(logical_id)
    if "ZipFile" in code:
        try:
            return unpacked.inline(logical_id, str(code["ZipFile"])), template.source.path
        except OSError as error:
            raise TemplateError(f"{where}: {logical_id}'s code cannot be kept: {error}") from error
    path = (root / str(code["S3Key"])).resolve()
    if path.is_file():
        try:
            return unpacked.archive(logical_id, path), path
        except TemplateError as error:
            raise TemplateError(f"{where}: {logical_id}'s code {path} {error}") from error
    return path, None if path.is_dir() else path


@dataclass(frozen=True, slots=True)
class _Layer:
    """Either ``folder`` (from ``archive``) is ``/opt``, or ``sources`` go to ``/opt/python``."""

    folder: Path | None = None
    sources: Path | None = None
    archive: Path | None = None


class _Layers:
    def __init__(
        self, template: Template, names: Names, unpacked: UnpackedCode, notes: Notes
    ) -> None:
        self._template = template
        self._unpacked = unpacked
        self._notes = notes
        self._root = template.source.path.resolve().parent
        self._found: dict[str, _Layer] = {}
        self._reported: set[str] = set()
        for logical_id, raw in template.of_type("AWS::Lambda::LayerVersion"):
            layer = self._read(logical_id, code_location(names.resolve(raw.get("Content") or {})))
            if layer is not None:
                self._found[str(names.ref(logical_id))] = layer

    def of(self, logical_id: str, arns: Sequence[Any]) -> list[_Layer]:
        """Return a function's layers in the template's order; a missing one is noted once."""
        found: list[_Layer] = []
        for arn in map(str, arns):
            if arn in self._found:
                found.append(self._found[arn])
            elif arn not in self._reported:
                self._reported.add(arn)
                self._notes.remark(
                    logical_id, f"its layer {arn} is not on this machine: its packages must be "
                    "installed beside twolane",
                )  # fmt: skip
        return found

    def _read(self, logical_id: str, content: Mapping[str, Any]) -> _Layer | None:
        if content.get("S3Bucket") != LOCAL_BUCKET:
            return None  # noted when a function uses it
        path = (self._root / str(content["S3Key"])).resolve()
        where = self._template.source.where(logical_id)
        if path.is_file():
            try:
                return _Layer(folder=self._unpacked.archive(logical_id, path), archive=path)
            except TemplateError as error:
                raise TemplateError(f"{where}: {logical_id}'s content {path} {error}") from error
        if not path.exists():
            self._notes.remark(logical_id, f"there is no {path}")
        # https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/building-layers.html
        metadata = self._template.resources[logical_id].get("Metadata") or {}
        method = str(content.get("S3ObjectVersion") or metadata.get("BuildMethod") or "")
        if not method:
            return _Layer(folder=path)
        if not method.startswith("python"):
            self._notes.remark(
                logical_id, f"its BuildMethod {method!r} is not run; its folder is used"
            )
            return _Layer(folder=path)
        return _Layer(sources=path)


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
    """Temporary folders of code, one for the same code, until ``close``."""

    def __init__(self, *, max_files: int = MAX_FILES) -> None:
        self._max_files = max_files
        self._root: Path | None = None
        self._lock = -1
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
        """Return a folder with the archive's content, or with the file itself, a module that SAM
        zips before the upload. Raises ``TemplateError`` with the problem; the caller adds the
        resource's name.
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
        """Return a path in the temporary folder for another use."""
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
        """Remove folders used neither now nor last time, where invocations may still run."""
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
            raise TemplateError(_too_large(file.stat().st_size))
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
        raise TemplateError(f"cannot be unzipped: {error}") from error


def _check(members: list[zipfile.ZipInfo], max_files: int) -> None:
    """Refuse before writing; ``zipfile`` reads no more of a member than its stated size."""
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
