"""Sync: make the collection equal to the files. A second run does nothing; a broken-off run is completed by the next."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest.chunk import chunks
from ingest.load import READERS, UnreadableError, read
from rag_app.embeddings import Embeddings
from rag_app.store import Store, Stored
from rag_app.types import Chunk, RagError, Record

# Part of every document's hash: raise it when readers or chunker change what they make of the same file.
RECIPE = b"1"


class Failure(Record):
    """A file that was not indexed, and why."""

    path: str
    reason: str


class Documents(Record):
    """What happened to the documents: counts, and by name those that hold no searchable text."""

    added: int
    changed: int
    unchanged: int
    removed: int
    empty: tuple[Failure, ...]
    skipped: tuple[Failure, ...]
    failed: tuple[Failure, ...]


class ChunkCounts(Record):
    """Chunks embedded in this run, stored at its end, and deleted by it."""

    embedded: int
    stored: int
    deleted: int


class Report(Record):
    """The result of one ingest run. `languages` counts the documents by ISO 639 code."""

    documents: Documents
    chunks: ChunkCounts
    embedding_requests: int
    seconds: float
    languages: dict[str, int]


@dataclass(frozen=True)
class File:
    """A file of the corpus: `document` is its path below its root, and its name in the store."""

    path: Path
    root: str
    document: str


@dataclass
class Progress:
    """Called back as the work goes on: `files(done, total)`, then `chunks(done, total)`."""

    files: Callable[[int, int], None] = lambda done, total: None
    chunks: Callable[[int, int], None] = lambda done, total: None


def ingest(paths: Sequence[Path], store: Store, embeddings: Embeddings, progress: Progress | None = None) -> Report:
    """Make the store equal to the files below the paths, and return what was done.

    Only what lies below these paths is touched: documents from elsewhere stay. RagError if a path is missing, nothing is
    there to read, or the endpoint or the store fails; what was stored by then stays and the next run goes on from it.
    """
    start = time.perf_counter()
    progress = progress or Progress()
    files, skipped = find(paths)
    known = store.stored()
    _refuse_collisions(files, known)

    plan = _plan(files, known, progress)
    to_embed = [pair for pair in plan.wanted if pair[0].id not in known]
    to_update = [pair for pair in plan.wanted if pair[0].id in known and known[pair[0].id] != pair[1]]
    embedded = 0
    progress.chunks(0, len(to_embed))
    for vectors in embeddings.passages(chunk.text_in_context for chunk, _ in to_embed):
        store.create(embeddings.endpoint.model, vectors.shape[1])
        store.put(to_embed[embedded : embedded + len(vectors)], vectors)
        embedded += len(vectors)
        progress.chunks(embedded, len(to_embed))
    store.update(to_update)

    # Last, so that a run that breaks off leaves old chunks beside new ones rather than a gap.
    wanted_ids = plan.kept.union(chunk.id for chunk, _ in plan.wanted)
    documents_found = {file.document for file in files}
    folders = {_root_name(path) for path in paths if path.is_dir()}
    stale = [
        identity
        for identity, stored in known.items()
        if identity not in wanted_ids and (stored.document in documents_found or stored.root in folders)
    ]
    store.delete(stale)
    removed = {known[identity].document for identity in stale} - documents_found

    documents = Documents(
        **plan.counts, removed=len(removed), empty=tuple(plan.empty), skipped=tuple(skipped), failed=tuple(plan.failed)
    )
    return Report(
        documents=documents,
        chunks=ChunkCounts(embedded=embedded, stored=store.count(), deleted=len(stale)),
        embedding_requests=embeddings.n_requests,
        seconds=round(time.perf_counter() - start, 3),
        languages=plan.languages,
    )


def find(paths: Sequence[Path]) -> tuple[list[File], list[Failure]]:
    """Return the files below the paths that have a reader, in order, and those that have none.

    RagError for a path that is not there, or where nothing is to be read.
    """
    files: dict[Path, File] = {}
    skipped: list[Failure] = []
    for path in paths:
        if not path.exists():
            raise RagError(f"no such file or folder: {path}")
        root = path if path.is_dir() else path.parent
        # The folder itself may be hidden or be reached over a link: it was named. What lies below it is not followed.
        for file in sorted(_walk(path)) if path.is_dir() else [path]:
            document = file.relative_to(root).as_posix()
            if file.suffix.lower() in READERS:
                files.setdefault(file.resolve(), File(file, _root_name(root), document))
            else:
                skipped.append(Failure(path=document, reason=f"no reader for {file.suffix or 'a file without a suffix'}"))
    if not files:
        names = ", ".join(str(path) for path in paths)
        raise RagError(f"nothing to read in {names}: put {' '.join(READERS)} files there")
    return list(files.values()), skipped


def _walk(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise RagError(f"folder {folder} cannot be read ({error.strerror}): check its permissions") from None
    for entry in entries:
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_dir():
            yield from _walk(entry)
        elif entry.is_file():
            yield entry


def _root_name(root: Path) -> str:
    """Return the root as the store remembers it: below the working directory relative to it, so that a project can move."""
    root = root.resolve()
    here = Path.cwd()
    return root.relative_to(here).as_posix() if root.is_relative_to(here) else root.as_posix()


def _refuse_collisions(files: Sequence[File], known: dict[str, Stored]) -> None:
    owner: dict[str, str] = {}
    for stored in known.values():
        # A root that is gone gives its documents to whoever brings them again.
        if Path(stored.root).exists():
            owner[stored.document] = stored.root
    for file in files:
        if owner.setdefault(file.document, file.root) != file.root:
            raise RagError(
                f"{file.document} is in {owner[file.document]} and in {file.root}: ingest the folder that holds both, "
                "or give one of them a collection of its own with --collection"
            )


class _Plan:
    def __init__(self) -> None:
        self.wanted: list[tuple[Chunk, Stored]] = []
        # Ids that stay as they are: of unchanged documents, and of those whose file cannot be read now.
        self.kept: set[str] = set()
        self.counts = {"added": 0, "changed": 0, "unchanged": 0}
        self.empty: list[Failure] = []
        self.failed: list[Failure] = []
        self.languages: dict[str, int] = {}


def _plan(files: Sequence[File], known: dict[str, Stored], progress: Progress) -> _Plan:
    by_document: dict[str, dict[str, Stored]] = {}
    for identity, stored in known.items():
        by_document.setdefault(stored.document, {})[identity] = stored
    plan = _Plan()
    languages: Counter[str] = Counter()
    for done, file in enumerate(files, 1):
        before = by_document.get(file.document, {})
        try:
            content = file.path.read_bytes()
            document_hash = hashlib.sha256(RECIPE + content).hexdigest()
            if _complete(before, file.root, document_hash):
                plan.counts["unchanged"] += 1
                plan.kept.update(before)
                languages[next(iter(before.values())).language] += 1
                continue
            document = read(file.path, content)
        except (UnreadableError, OSError) as error:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            plan.failed.append(Failure(path=file.document, reason=reason))
            plan.kept.update(before)
            continue
        finally:
            progress.files(done, len(files))
        cut = chunks(file.document, document)
        if not cut:
            plan.empty.append(Failure(path=file.document, reason="it holds no text"))
            continue
        languages[cut[0].language] += 1
        plan.counts["changed" if before else "added"] += 1
        plan.wanted.extend((chunk, _as_stored(chunk, file, document_hash, len(cut))) for chunk in cut)
    plan.languages = dict(languages.most_common())
    return plan


def _complete(before: dict[str, Stored], root: str, document_hash: str) -> bool:
    """Whether all of a document is stored, and nothing else under its name."""
    same = all(s.document_hash == document_hash and s.root == root and s.n_chunks == len(before) for s in before.values())
    return bool(before) and same


def _as_stored(chunk: Chunk, file: File, document_hash: str, n_chunks: int) -> Stored:
    return Stored(
        document=chunk.document,
        root=file.root,
        document_hash=document_hash,
        n_chunks=n_chunks,
        position=chunk.position,
        language=chunk.language,
    )
