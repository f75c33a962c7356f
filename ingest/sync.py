"""Sync: make the collection equal to the files. A second run does nothing; a broken-off run is completed by the next."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
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


def ingest(
    paths: Sequence[Path],
    store: Store,
    embeddings: Embeddings,
    progress: Progress | None = None,
    *,
    force: bool = False,
) -> Report:
    """Make the store equal to the files below the paths, and return what was done.

    Only what lies below these paths is touched: documents from elsewhere stay. RagError if a path is missing, nothing is
    there to read, or the endpoint or the store fails; what was stored by then stays and the next run goes on from it.
    A folder that is gone or empty, but has documents in the store, is emptied there only with `force`.
    """
    start = time.perf_counter()
    progress = progress or Progress()
    known = store.stored()
    roots = {Path(stored.root) for stored in known.values()}
    files, skipped = find(paths, roots, gone_is_empty=force)
    in_scope = {identity for identity, stored in known.items() if _below(_file(stored), paths)}
    if not files and not (force and in_scope):
        held = f", but {len({known[i].document for i in in_scope})} documents of it are stored: --force removes them"
        remedy = f": put {' '.join(READERS)} files there"
        names = ", ".join(str(path) for path in paths)
        raise RagError(f"nothing to read in {names}{held if in_scope else remedy}")
    _refuse_collisions(files, [stored for identity, stored in known.items() if identity not in in_scope])

    plan = _plan(files, known, progress)
    to_embed = [pair for pair in plan.wanted if pair[0].id not in known]
    to_update = [pair for pair in plan.wanted if pair[0].id in known and known[pair[0].id] != pair[1]]
    requests_before = embeddings.n_requests
    embedded = 0
    progress.chunks(0, len(to_embed))
    done = 0
    for batch in embeddings.passages(chunk.text_in_context for chunk, _ in to_embed):
        pairs = to_embed[done : done + len(batch.vectors)]
        accepted = [row for row in range(len(pairs)) if row not in batch.refused]
        if accepted:
            store.create(embeddings.recipe, batch.vectors.shape[1])
            store.put([pairs[row] for row in accepted], batch.vectors[accepted])
        for row, reason in batch.refused.items():
            plan.refuse(pairs[row][0].document, reason)
        embedded += len(accepted)
        done += len(pairs)
        progress.chunks(done, len(to_embed))
    store.update(to_update)

    # Last, so that a run that breaks off leaves old chunks beside new ones rather than a gap.
    wanted_ids = plan.kept.union(chunk.id for chunk, _ in plan.wanted)
    documents_found = {file.document for file in files}
    stale = [i for i, s in known.items() if i not in wanted_ids and (i in in_scope or s.document in documents_found)]
    store.delete(stale)
    if plan.wanted or stale:
        store.touch()
    removed = {known[identity].document for identity in stale} - documents_found

    states = Counter(plan.states.values())
    documents = Documents(
        added=states["added"],
        changed=states["changed"],
        unchanged=states["unchanged"],
        removed=len(removed),
        empty=tuple(plan.empty),
        skipped=tuple(skipped),
        failed=tuple(plan.failed),
    )
    return Report(
        documents=documents,
        chunks=ChunkCounts(embedded=embedded, stored=store.count(), deleted=len(stale)),
        embedding_requests=embeddings.n_requests - requests_before,
        seconds=round(time.perf_counter() - start, 3),
        languages=plan.languages,
    )


def rebuild(
    paths: Sequence[Path],
    old: Store,
    new: Store,
    embeddings: Embeddings,
    progress: Progress | None = None,
    *,
    force: bool = False,
) -> Report:
    """Embed everything anew into another collection, then let it take the old one's place; questions go on meanwhile.

    RagError, and the old collection stays, if the new one would hold less: documents from other folders, or documents
    whose file fails now. `force` takes that loss.
    """
    known = old.stored()
    elsewhere = sorted({stored.root for stored in known.values() if not _below(_file(stored), paths)})
    if elsewhere and not force:
        raise RagError(f"{old.name} also holds documents from {', '.join(elsewhere)}: name that too, or drop them with --force")
    # One that was broken off is gone on with.
    if new.recipe != embeddings.recipe:
        new.drop()
    report = ingest(paths, new, embeddings, progress, force=force)
    lost = {stored.document for stored in known.values()} & {failure.path for failure in report.documents.failed}
    if (lost or not new.count()) and not force:
        names = ", ".join(sorted(lost)) or "every document"
        new.drop()
        raise RagError(f"{names} cannot be read now, so the old collection stays: repair that, or go on with --force")
    new.replace(old.name)
    return report


def find(paths: Sequence[Path], roots: Iterable[Path] = (), *, gone_is_empty: bool = False) -> tuple[list[File], list[Failure]]:
    """Return the files below the paths that have a reader, in order, and those that have none.

    A file below several roots, these paths or earlier ones, belongs to the outermost. RagError for a path that is not there.
    """
    files: dict[Path, File] = {}
    skipped: list[Failure] = []
    outermost_first = sorted({*roots, *(_folder(path) for path in paths)}, key=lambda root: len(root.parts))
    for path in paths:
        if not path.exists():
            if gone_is_empty:
                continue
            raise RagError(f"no such file or folder: {path} (--force removes what is stored of it)")
        # The folder itself may be hidden or be reached over a link: it was named. What lies below it is not followed.
        for file in _walk(path) if path.is_dir() else [path]:
            whole = file.resolve()
            root = next(root for root in outermost_first if whole.is_relative_to(root))
            document = whole.relative_to(root).as_posix().encode("utf-8", "replace").decode()
            if file.suffix.lower() in READERS:
                files.setdefault(whole, File(file, root.as_posix(), document))
            else:
                skipped.append(Failure(path=document, reason=f"no reader for {file.suffix or 'a file without a suffix'}"))
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


def _folder(path: Path) -> Path:
    return path.resolve() if path.is_dir() else path.resolve().parent


def _file(stored: Stored) -> Path:
    return Path(stored.root) / stored.document


def _below(file: Path, paths: Sequence[Path]) -> bool:
    return any(file.is_relative_to(path.resolve()) for path in paths)


def _refuse_collisions(files: Sequence[File], elsewhere: Sequence[Stored]) -> None:
    # What lies below the paths of this run is named anew by it; from elsewhere a name is free only if its file is gone.
    owner = {stored.document: stored for stored in elsewhere}
    seen: dict[str, File] = {}
    for file in files:
        other = seen.setdefault(file.document, file)
        stored = owner.get(file.document)
        if other.root != file.root or (stored and stored.root != file.root and _file(stored).exists()):
            root = other.root if other.root != file.root or not stored else stored.root
            raise RagError(
                f"{file.document} is in {root} and in {file.root}: ingest the folder that holds both, "
                "or give one of them a collection of its own with --collection"
            )


class _Plan:
    def __init__(self) -> None:
        self.wanted: list[tuple[Chunk, Stored]] = []
        # Ids that stay as they are: of unchanged documents, and of those whose file cannot be read now.
        self.kept: set[str] = set()
        # Document → added, changed or unchanged.
        self.states: dict[str, str] = {}
        self.empty: list[Failure] = []
        self.failed: list[Failure] = []
        self.languages: dict[str, int] = {}

    def refuse(self, document: str, reason: str) -> None:
        """Count a document as failed whose text the embeddings endpoint refuses; the next run tries it again."""
        if self.states.pop(document, None):
            self.failed.append(Failure(path=document, reason=reason))


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
                plan.states[file.document] = "unchanged"
                plan.kept.update(before)
                languages[next(iter(before.values())).language] += 1
                continue
            document = read(file.path, content)
        except (UnreadableError, OSError) as error:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            reason += "; what was stored of it before stays" if before else ""
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
        plan.states[file.document] = "changed" if before else "added"
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
