"""Uploads: files that come over the page, put under safe names into a folder of their own, from where they are ingested."""

import itertools
import re
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from ingest.planning import Failure
from ingest.readers.encoding import decode_names
from rag_app.errors import RagError
from rag_app.settings import Settings
from rag_app.words import msg

MAX_FILES = 5000
MAX_NAME = 120
MAX_DEPTH = 8
MAX_FOLDERS = 500
# A zip may unpack to so many times what one file may have.
UNPACKED = 10
_MB = 1_000_000
_PIECE = 1_000_000
# Names that Windows keeps for devices.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def root(settings: Settings) -> Path:
    """Return the folder that a collection's uploads are ingested from; they lie in `uploads` below it, and are named so."""
    return settings.upload_path / settings.collection


@dataclass
class Received:
    """What came of an upload: where its files lie, and which were refused and why."""

    kept: list[Path] = field(default_factory=list)
    refused: list[Failure] = field(default_factory=list)

    def refuse(self, name: str, reason: str) -> int:
        self.refused.append(Failure(path=name, reason=reason))
        return 0


def receive(settings: Settings, files: Sequence[tuple[str, IO[bytes]]]) -> Received:
    """Keep files, zips unpacked, below `root`; each is whole or not there.

    A file of the name of an earlier upload takes its place; of two of one upload the second gets a number. RagError if the
    folder cannot be written.
    """
    folder = root(settings) / "uploads"
    received = Received()
    try:
        for name, content in files:
            if _is_zip(name, content):
                _unpack(settings, folder, [safe_name(name)], name, content, received)
            else:
                content.seek(0)
                _keep(folder, [safe_name(name)], content, settings.upload_mb * _MB, name, received)
    except OSError as error:
        raise RagError(
            msg("uploads cannot be kept in {folder} ({reason})", folder=folder, reason=error.strerror or error),
            msg("free some space, or set RAG_UPLOAD_PATH"),
        ) from error
    return received


def remove(settings: Settings, path: Path) -> bool:
    """Delete a file if it is an upload; return whether it was."""
    below = (root(settings) / "uploads").resolve()
    whole = path.resolve()
    if not whole.is_relative_to(below):
        return False
    whole.unlink(missing_ok=True)
    for parent in whole.parents:
        if parent == below or not parent.is_relative_to(below) or any(parent.iterdir()):
            break
        parent.rmdir()
    return True


def server_folders(settings: Settings) -> list[str]:
    """Return the folders that the page may ingest: three deep below RAG_SERVER_PATH, as `_allowed`."""
    top = settings.server_path.resolve()
    found: list[str] = []

    def look(folder: Path, depth: int) -> None:
        try:
            below = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())
        except OSError:
            # What cannot be read cannot be offered.
            return
        for entry in below:
            if _allowed(settings, entry) and len(found) < MAX_FOLDERS:
                found.append(entry.relative_to(top).as_posix())
                if depth > 1:
                    look(entry, depth - 1)

    look(top, 3)
    return found


def server_folder(settings: Settings, name: str) -> Path:
    """Return a folder of this machine that the page may ingest: one below RAG_SERVER_PATH. RagError for another."""
    top = settings.server_path.resolve()
    path = (top / name.strip()).resolve()
    if not path.is_relative_to(top):
        raise RagError(
            msg("{name} is not under {path}", name=name, path=settings.server_path),
            msg("put it there, or set RAG_SERVER_PATH to a folder above it"),
        )
    if not path.is_dir():
        raise RagError(msg("there is no folder {name} in {path}", name=name, path=settings.server_path), msg("check the name"))
    if path == top or not all(_allowed(settings, folder) for folder in (path, *path.parents) if folder.is_relative_to(top)):
        raise RagError(
            msg("{name} is hidden, or holds uploads, feedback or Chroma's files", name=name), msg("choose a different folder")
        )
    return path


def _allowed(settings: Settings, folder: Path) -> bool:
    """Whether a folder is not hidden and holds none of what the application itself writes."""
    own = [path.resolve() for path in (settings.upload_path, settings.feedback_path, settings.chroma_path)]
    top = settings.server_path.resolve()
    return folder == top or not (
        folder.name.startswith(".") or any(path.is_relative_to(folder) or folder.is_relative_to(path) for path in own)
    )


def safe_name(name: str) -> str:
    """Return a name that does on every system: no folder, no control or direction characters, not hidden, not too long."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    name = "".join(c for c in name if c.isprintable())
    name = re.sub(r'[<>:"|?*]', "_", name).strip(" .") or "unnamed"
    stem, dot, ending = name.rpartition(".")
    stem, ending = (stem, f".{ending[:15]}") if dot and stem else (name, "")
    if stem.lower() in _DEVICES:
        stem = f"_{stem}"
    while len(f"{stem}{ending}".encode()) > MAX_NAME:
        stem = stem[:-1]
    return f"{stem}{ending}"


def _is_zip(name: str, content: IO[bytes]) -> bool:
    # Office files and EPUBs are zips too, and are read whole.
    return name.lower().endswith(".zip") and zipfile.is_zipfile(content)


@dataclass
class _Left:
    """What an upload's ZIP may still unpack to, with those inside it."""

    bytes: int
    files: int


def _unpack(
    settings: Settings,
    folder: Path,
    parts: Sequence[str],
    name: str,
    content: IO[bytes],
    received: Received,
    left: _Left | None = None,
) -> None:
    """Unpack a ZIP into a folder of its name, and those in it into folders of theirs; what is unsafe or too much is refused."""
    limit = settings.upload_mb * _MB
    left = left or _Left(limit * UNPACKED, MAX_FILES)
    inside = [*parts[:-1], PurePosixPath(parts[-1]).stem]
    try:
        with zipfile.ZipFile(content) as archive:
            members = list(_members(archive))
            left.files -= len(members)
            if not members:
                received.refuse(name, msg("it holds no files"))
            if left.files < 0:
                received.refuse(name, msg("it holds more than {most:,} files: split it", most=MAX_FILES))
                return
            for member, path in zip(members, _paths(members), strict=True):
                parts = [*inside, *(safe_name(part) for part in PurePosixPath(path).parts)]
                shown = f"{name}: {path}"
                if left.bytes <= 0:
                    most = settings.upload_mb * UNPACKED
                    received.refuse(shown, msg("the ZIP unpacks to more than {most:,} MB: split it", most=most))
                    continue
                if reason := _unsafe(member, path, parts, limit):
                    received.refuse(shown, reason)
                    continue
                try:
                    with archive.open(member) as part, tempfile.SpooledTemporaryFile(_PIECE) as zipped:
                        if not path.lower().endswith(".zip"):
                            # Also what was unpacked of one that is then refused counts.
                            left.bytes -= _keep(folder, parts, part, limit, shown, received)
                            continue
                        left.bytes -= (size := _copy(part, zipped, limit))
                        if size <= limit and zipfile.is_zipfile(zipped):
                            _unpack(settings, folder, parts, shown, zipped, received, left)
                        else:
                            zipped.seek(0)
                            _keep(folder, parts, zipped, limit, shown, received)
                except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError, zlib.error) as error:
                    received.refuse(shown, msg("it cannot be unpacked ({reason}): zip it again", reason=error))
    except (zipfile.BadZipFile, ValueError) as error:
        received.refuse(name, msg("not a readable ZIP ({reason}): zip it again", reason=error))


def _members(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """Yield the files of a zip, without hidden ones and what a Mac adds."""
    for member in archive.infolist():
        parts = PurePosixPath(member.filename.replace("\\", "/")).parts
        hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
        if not member.is_dir() and not hidden and "__MACOSX" not in parts:
            yield member


def _paths(members: Sequence[zipfile.ZipInfo]) -> list[str]:
    """Return the paths of members. A ZIP that does not say that its names are UTF-8 has them in the encoding of its maker."""
    raw = {i: member.filename.encode("cp437", "replace") for i, member in enumerate(members) if not member.flag_bits & 0x800}
    paths = dict(zip(raw, decode_names(list(raw.values())), strict=True)) if raw else {}
    return [paths.get(i, member.filename).replace("\\", "/") for i, member in enumerate(members)]


def _too_large(limit: int) -> str:
    return msg("it has more than {mb:,.0f} MB (RAG_UPLOAD_MB): split it, or ingest it on the server", mb=limit / _MB)


def _unsafe(member: zipfile.ZipInfo, path: str, parts: Sequence[str], limit: int) -> str:
    """Return why a member of a zip is refused, or ""."""
    if path.startswith("/") or ".." in path.split("/") or re.match(r"[A-Za-z]:", path):
        return msg("its path points outside the ZIP")
    if (member.external_attr >> 16) & 0o170000 == 0o120000:
        return msg("it is a link")
    if member.flag_bits & 1:
        return msg("it has a password: zip it without one")
    if member.file_size > limit:
        return _too_large(limit)
    # The first is the ZIP's own.
    if len(parts) > MAX_DEPTH + 1:
        return msg("it is more than {most} folders deep", most=MAX_DEPTH)
    return ""


def _keep(folder: Path, parts: Sequence[str], content: IO[bytes], limit: int, shown: str, received: Received) -> int:
    """Write a file beside its place, then move it there, so that it is whole; return the bytes that were read of it."""
    path = _free(folder.joinpath(*parts), received.kept)
    if path.is_dir():
        return received.refuse(shown, msg("there is a folder of that name: rename the file"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        return received.refuse(shown, msg("there is a file with the name of its folder: rename the folder"))
    # Hidden, so that an ingest that runs now leaves it out.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".part", delete=False) as partial:
        try:
            size = _copy(content, partial, limit)
            if size <= limit:
                partial.close()
                Path(partial.name).replace(path)
                received.kept.append(path)
                return size
        finally:
            Path(partial.name).unlink(missing_ok=True)
    received.refuse(shown, _too_large(limit))
    return size


def _copy(content: IO[bytes], to: IO[bytes], limit: int) -> int:
    """Copy bytes until they are too many; return how many there were."""
    size = 0
    while size <= limit and (piece := content.read(_PIECE)):
        size += len(piece)
        to.write(piece)
    return size


def _free(path: Path, kept: Sequence[Path]) -> Path:
    """Return the path, with a number if another file of the same upload has it."""
    taken, first = set(kept), path
    for n in itertools.count(2):
        if path not in taken:
            return path
        path = first.with_name(f"{first.stem} ({n}){first.suffix}")
    raise AssertionError("unreachable")
