"""Files: what lies below the paths that were named, and which of it is meant."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from rag_app.errors import RagError
from rag_app.store.stored import is_database, named
from rag_app.words import msg

IGNORE = ".ragignore"
# Says of documents what metadata.py reads; no document itself.
SIDECAR = "_meta.yaml"


@dataclass(frozen=True)
class File:
    """A file of the corpus: `document` is its path below its root, and its name in the store."""

    path: Path
    root: str
    document: str


@dataclass(frozen=True)
class Found:
    """The files below some paths (absolute), in order."""

    files: list[File]
    paths: list[Path]
    # Which part of them is meant, such as 3/8; "" is all.
    part: str = ""

    def only(self, part: str) -> "Found":
        """Return one part of so many, 3/8 being the third of eight: each file is in one of them, by its name in the store."""
        found = Found(self.files, self.paths, part)
        return Found([file for file in self.files if found.has(file.document)], self.paths, part)

    def has(self, document: str) -> bool:
        """Whether a document is in this part."""
        if not self.part:
            return True
        number, of = map(int, self.part.split("/"))
        return zlib.crc32(document.encode()) % of == number - 1

    def covers(self, file: Path) -> bool:
        """Whether a file lies below one of the paths."""
        return any(file.is_relative_to(path) for path in self.paths)


@dataclass(frozen=True)
class Choice:
    """Which files are meant: globs as in .gitignore, matched below each path that is named; nothing included means all."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden: bool = False


def find(
    paths: Sequence[Path],
    roots: Iterable[Path] = (),
    choice: Choice = Choice(),
    *,
    gone_is_empty: bool = False,
) -> Found:
    """Return the files below the paths that are meant. Links are not followed, hidden files and .ragignore are heeded.

    A file below several roots, these paths or earlier ones, belongs to the outermost. RagError for a path that is not
    there or cannot be read.
    """
    files: dict[Path, File] = {}
    include = GitIgnoreSpec.from_lines(choice.include or ("*",))
    exclude = GitIgnoreSpec.from_lines(choice.exclude)
    outermost_first = sorted({*roots, *(_folder(path) for path in paths)}, key=lambda root: len(root.parts))
    for path in paths:
        if not path.exists():
            if gone_is_empty:
                continue
            raise RagError(
                msg("no such file or folder: {path}", path=path),
                msg("check the name; if it was deleted for good, --force removes what is stored of it"),
            )
        if not (path.is_dir() or path.is_file()):
            raise RagError(msg("{path} is neither a file nor a folder", path=path), msg("give a file or a folder"))
        # The folder itself may be hidden or be reached over a link: it was named. What lies below it is not followed.
        top = _folder(path)
        outermost = next(root for root in outermost_first if top.is_relative_to(root))
        above = [folder for folder in reversed(top.parents) if folder.is_relative_to(outermost)]
        rules = [rule for folder in above for rule in _rules(folder)]
        for file in _walk(path.resolve(), rules, hidden=choice.hidden) if path.is_dir() else [path]:
            whole = file.resolve()
            below = whole.relative_to(top).as_posix()
            if path.is_dir() and (exclude.match_file(below) or not include.match_file(below)):
                continue
            root = next(root for root in outermost_first if whole.is_relative_to(root))
            files.setdefault(whole, File(file, named(root.as_posix()), named(whole.relative_to(root).as_posix())))
    return Found(list(files.values()), [path.resolve() for path in paths])


def meant_by(glob: str) -> Callable[[str], bool]:
    """Return whether a glob as in .gitignore means a path below its folder. ValueError if it is none."""
    return GitIgnoreSpec.from_lines([glob]).match_file


def _walk(folder: Path, ignored: list[tuple[Path, GitIgnoreSpec]], *, hidden: bool) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise RagError(
            msg("folder {folder} cannot be read ({reason})", folder=folder, reason=error.strerror or error),
            msg("check its permissions"),
        ) from None
    ignored = [*ignored, *_rules(folder)]
    for entry in entries:
        if (entry.name.startswith(".") and not hidden) or entry.is_symlink() or entry.name in (IGNORE, SIDECAR):
            continue
        below = "/" if entry.is_dir() else ""
        verdicts = (rules.check_file(entry.relative_to(top).as_posix() + below).include for top, rules in reversed(ignored))
        # The innermost list that speaks of it decides.
        if next((verdict for verdict in verdicts if verdict is not None), False):
            continue
        if entry.is_dir():
            # A Chroma's own folder, which lies below `.` by default.
            if is_database(entry):
                continue
            yield from _walk(entry, ignored, hidden=hidden)
        elif entry.is_file():
            yield entry


def _rules(folder: Path) -> list[tuple[Path, GitIgnoreSpec]]:
    """Return a folder's .ragignore, if it has one."""
    file = folder / IGNORE
    try:
        return [(folder, GitIgnoreSpec.from_lines(file.read_text("utf-8-sig").splitlines()))] if file.is_file() else []
    except (OSError, ValueError) as error:
        raise RagError(
            msg("{file} is not a list of patterns as in .gitignore ({reason})", file=file, reason=error),
            msg("fix or remove it"),
        ) from None


def _folder(path: Path) -> Path:
    return path.resolve() if path.is_dir() else path.resolve().parent
