"""Sync: make the collection equal to the files. A second run does nothing; a broken-off run is completed by the next."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol
from unicodedata import normalize

import numpy as np

from ingest.chunk import Cutting
from ingest.files import Found
from ingest.lock import collection_lock
from ingest.planning import Failure, Plan, Task, planned, staying
from ingest.worker import WORKERS, Limits, Prepared, result
from rag_app import builtin, language
from rag_app.endpoints.embeddings import Embedded, Vectors
from rag_app.endpoints.http import OnWait
from rag_app.errors import RagError
from rag_app.extras import require
from rag_app.settings import Settings, fields
from rag_app.store.protocol import Store
from rag_app.store.stored import REINDEX, Version, Written
from rag_app.types import Record
from rag_app.words import msg

# Part of a collection's recipe: raise it when readers or chunker change what they make of the same file.
VERSION = "3"
# Files that are being read or wait for their embedding.
AHEAD = 16
# Chunks that are stored at once; whole documents, so there may be more.
WRITE = 1000
WRITE_EVERY = 5.0
# Documents that are removed at once.
REMOVE = 100

State = Literal["added", "changed", "unchanged", "moved", "removed", "empty", "skipped", "failed"]


class Documents(Record):
    """What happened to the documents: counts, and by name those that are not indexed, or not wholly (`noted`)."""

    added: int
    changed: int
    unchanged: int
    moved: int
    removed: int
    empty: tuple[Failure, ...]
    skipped: tuple[Failure, ...]
    failed: tuple[Failure, ...]
    noted: tuple[Failure, ...]


class ChunkCounts(Record):
    """Chunks embedded in this run, stored at its end, and deleted by it."""

    embedded: int
    stored: int
    deleted: int


class Report(Record):
    """The result of one ingest run. `languages` counts the documents in the store by ISO 639 code."""

    documents: Documents
    chunks: ChunkCounts
    embedding_requests: int
    seconds: float
    languages: dict[str, int]


@dataclass
class Progress:
    """Called back as the work goes on: how many of a file's chunks are embedded, the state it ends in, the chunks stored.

    `waits` hears the seconds for which a rate limit of the endpoint is waited out, and what the endpoint said; `lexical` how
    many documents of how many the lexical index took in at the end.
    """

    plan: Callable[[Plan], None] = lambda plan: None
    embedded: Callable[[str, int, int], None] = lambda document, n, of: None
    file: Callable[[str, State, str], None] = lambda document, state, reason: None
    chunks: Callable[[int], None] = lambda stored: None
    waits: Callable[[float, str], None] = lambda seconds, reason: None
    lexical: Callable[[int, int], None] = lambda done, of: None


class Embeds(Protocol):
    """Embeds passages: the client of the endpoint, or batches of it."""

    @property
    def recipe(self) -> dict[str, str]: ...
    @property
    def n_requests(self) -> int: ...

    def prepare(self, texts: Callable[[], Iterable[str]]) -> None:
        """Do before the first is embedded what is better done with all texts at once."""
        ...

    def passages(self, texts: Iterable[str], on_wait: OnWait | None = None) -> Iterator[Embedded]:
        """Yield the texts' vectors batch by batch, in the order given, with the texts that were refused."""
        ...


def recipe(embeddings: Embeds, cutting: Cutting) -> dict[str, str]:
    """Return what a collection is made by, for it to remember."""
    cut = {"chunk_size": str(cutting.size), "chunk_overlap": str(cutting.overlap), "chunk_unit": cutting.unit}
    return {**embeddings.recipe, **cut, "ingest_version": VERSION}


def cutting_and_limits(settings: Settings) -> tuple[Cutting, Limits]:
    """Return how the settings say that files are cut, and what one may take to read."""
    if settings.ocr_timeout:
        # Said once, before the first file.
        require("ocr", msg("RAG_OCR_TIMEOUT is set, but OCR is not installed"))
    cutting = Cutting(
        settings.chunk_size, settings.chunk_overlap, settings.chunk_unit, tuple(fields(settings.metadata).items())
    )
    return cutting, Limits(settings.read_timeout, settings.read_memory_mb, settings.ocr_timeout)


def ingest(
    found: Found,
    store: Store,
    embeddings: Embeds,
    cutting: Cutting = Cutting(),
    limits: Limits = Limits(),
    progress: Progress | None = None,
    *,
    prune: bool = True,
    force: bool = False,
    reembed: bool = False,
) -> Report:
    """Make the store equal to the files that were found, and return what was done.

    Files are read, embedded and stored side by side. A document is replaced whole or not at all. RagError if the endpoint
    or the store fails: what was stored by then stays and the next run goes on from it. With `prune` documents whose files
    are gone leave the store; see `planning.plan` for `force`.
    """
    start = time.perf_counter()
    progress = progress or Progress()
    with collection_lock(store, found.part):
        plan, tasks, known = planned(found, store, prune, force, reembed, cutting.fields)
        # After that, which sees the collection as it is now: a reindex may have ended a moment ago.
        store.require(recipe(embeddings, cutting))
        progress.plan(plan)
        requests_before = embeddings.n_requests
        first, later = [task for task in tasks if not task.later], [task for task in tasks if task.later]
        embeddings.prepare(lambda: _Look(store, embeddings, cutting, limits, Progress(), reembed).texts(first))
        run = _Run(store, embeddings, cutting, limits, progress, reembed)
        for failure in plan.failed:
            run.ended(failure.path, "failed", failure.reason)
        for document in plan.unchanged:
            run.ended(document, "unchanged")
        # Files that equal another of this run wait until that one's vectors are stored.
        with run.writer:
            run.work(first)
            run.work(later)
        # Last, so that a run that breaks off leaves old documents beside new ones rather than a gap.
        for start in range(0, len(plan.removed), REMOVE):
            for document, n in store.forget(plan.removed[start : start + REMOVE]).items():
                run.deleted += n
                run.ended(document, "removed")
    stored = store.documents() if run.stored or run.deleted else known
    return Report(
        documents=Documents(
            added=run.counts["added"],
            changed=run.counts["changed"],
            unchanged=run.counts["unchanged"],
            moved=run.counts["moved"],
            removed=run.counts["removed"],
            empty=tuple(run.failures["empty"]),
            skipped=tuple(run.failures["skipped"]),
            failed=tuple(run.failures["failed"]),
            noted=tuple(run.failures["noted"]),
        ),
        chunks=ChunkCounts(embedded=run.embedded, stored=sum(d.chunks for d in stored.values()), deleted=run.deleted),
        embedding_requests=embeddings.n_requests - requests_before,
        seconds=round(time.perf_counter() - start, 3),
        languages=dict(Counter(document.language for document in stored.values()).most_common()),
    )


def chosen(store: Store, names: Sequence[str]) -> list[str]:
    """Return the documents that names mean: documents or folders as `Store.documents` has them, or paths of the file system.

    RagError if one means nothing.
    """
    known = store.documents()
    found: set[str] = set()
    for name in names:
        if not name.strip():
            raise RagError(msg("a name is empty"), msg("give a document or a folder as `rag-app documents` lists it"))
        path = Path(name).expanduser().resolve()
        below = normalize("NFC", name).rstrip("/") + "/"
        matching = {
            document
            for document, stored in known.items()
            if f"{normalize('NFC', document)}/".startswith(below) or stored.path.is_relative_to(path)
        }
        if not matching:
            raise RagError(
                msg("{name} is not stored in {collection}", name=name, collection=store.name),
                msg("run `rag-app documents` to list what is stored"),
            )
        found |= matching
    return sorted(found)


def forget(store: Store, documents: Sequence[str]) -> dict[str, int]:
    """Take documents out of the store and its files; return how many chunks each had."""
    with collection_lock(store):
        forgotten = store.forget(documents)
        store.wipe()
        return forgotten


def reset(store: Store) -> None:
    """Delete a collection, and the new one of an interrupted reindex."""
    with collection_lock(store):
        with store.sibling(f"{store.name}{REINDEX}") as new:
            new.drop()
        store.drop()
        store.wipe()


def foreign(languages: dict[str, int], model: str) -> dict[str, int]:
    """Return the languages that a model is known not to read, with their counts of documents."""
    if model not in builtin.ENGLISH_ONLY:
        return {}
    total = sum(languages.values())
    # One document in fifty may as well be misjudged.
    return {code: n for code, n in languages.items() if code not in language.MAYBE_ENGLISH and 50 * n >= total}


class _Run:
    """One run's work: files are read ahead in processes, embedded in threads, and stored by one more thread."""

    def __init__(
        self, store: Store, embeddings: Embeds, cutting: Cutting, limits: Limits, progress: Progress, reembed: bool
    ) -> None:
        self.reembed = reembed
        self.store = store
        self.embeddings = embeddings
        self.cutting = cutting
        self.limits = limits
        self.progress = progress
        self.counts: Counter[str] = Counter()
        self.failures: dict[str, list[Failure]] = {"empty": [], "skipped": [], "failed": [], "noted": []}
        self.embedded = self.deleted = self.stored = 0
        # In the order in which their chunks go to the endpoint.
        self.under_way: deque[Task] = deque()
        # Complete, and not yet given to the writer.
        self.complete: list[Task] = []
        self.writer = ThreadPoolExecutor(1)
        self.writes: deque[Future[None]] = deque()
        self.written = time.monotonic()
        self.lock = threading.Lock()

    def ended(self, document: str, state: State, reason: str = "") -> None:
        """Note the one state that a file ends in."""
        with self.lock:
            self.counts[state] += 1
            if reason:
                self.failures[state if state in self.failures else "noted"].append(Failure(path=document, reason=reason))
            self.progress.file(document, state, reason)

    def work(self, tasks: Sequence[Task]) -> None:
        """Read, embed and store; what is complete when the endpoint fails is stored all the same."""
        try:
            for batch in self.embeddings.passages(self.texts(tasks), self.progress.waits):
                self._take(batch.vectors, batch.refused)
                self._advance()
        finally:
            self._advance(last=True)
            while self.writes:
                self.writes.popleft().result()

    def _advance(self, *, last: bool = False) -> None:
        """Give the writer what is complete: when there is enough of it, or for a while there was not."""
        while self.under_way and not self.under_way[0].missing:
            self.complete.append(self.under_way.popleft())
        n_chunks = sum(len(task.prepared.chunks) for task in self.complete)
        if self.complete and (last or n_chunks >= WRITE or time.monotonic() - self.written > WRITE_EVERY):
            # One write waits behind the one under way, no more: what is held stays bounded.
            while len(self.writes) > 1:
                self.writes.popleft().result()
            self.writes.append(self.writer.submit(self._write, self.complete))
            self.complete = []
            self.written = time.monotonic()

    def texts(self, tasks: Sequence[Task]) -> Iterator[str]:
        """Yield the texts to embed, file by file, reading a few files ahead."""
        waiting: deque[tuple[Task, Future[Prepared]]] = deque()
        for task in tasks:
            waiting.append((task, self._read(task)))
            if len(waiting) > AHEAD:
                yield from self._prepared(*waiting.popleft())
        while waiting:
            yield from self._prepared(*waiting.popleft())

    def _read(self, task: Task) -> "Future[Prepared]":
        return WORKERS.submit(task.file.path, task.file.document, self.cutting, self.limits, task.described)

    def _prepared(self, task: Task, future: "Future[Prepared]") -> Iterator[str]:
        document = task.file.document
        task.prepared = result(future, self.limits)
        if task.prepared.state == "failed":
            self.ended(document, "failed", staying(task.prepared.reason, stored=bool(task.replaces)))
            return
        known = self._vectors(task)
        task.vectors = [known.get((chunk.text_in_context, "")) for chunk in task.prepared.chunks]
        if task.twin:
            # The same file has the same vectors, though a title that is only its name may differ.
            task.vectors = [
                v if v is not None else known.get((c.text, str(c.position)))
                for v, c in zip(task.vectors, task.prepared.chunks, strict=True)
            ]
        task.missing = sum(vector is None for vector in task.vectors)
        self._tell(task)
        (self.under_way if task.missing else self.complete).append(task)
        for chunk, vector in zip(task.prepared.chunks, list(task.vectors), strict=True):
            if vector is None:
                yield chunk.text_in_context
        self._advance()

    def _vectors(self, task: Task) -> dict[tuple[str, str], Vectors]:
        """Return the vectors that serve again: of the chunks that the file replaces, and of a file with the same content."""
        found: dict[tuple[str, str], Vectors] = {}
        for document in task.replaces:
            for chunk, vector in self.store.chunks_of(document, unfinished=True) if not self.reembed else ():
                found[chunk.text_in_context, ""] = vector
        twin = self.store.document(task.twin) if task.twin else None
        # It may have been replaced meanwhile.
        if twin and twin.version.document_hash == task.prepared.document_hash:
            for chunk, vector in self.store.chunks_of(task.twin):
                found[chunk.text, str(chunk.position)] = vector
        return found

    def _take(self, vectors: Vectors, refused: dict[int, str]) -> None:
        """Give the vectors of a batch, in order, to the chunks that wait for them."""
        row = 0
        for task in self.under_way:
            if row == len(vectors):
                return
            for i in range(task.filled, len(task.vectors)):
                if row == len(vectors):
                    break
                task.filled = i + 1
                if task.vectors[i] is None:
                    task.vectors[i] = vectors[row]
                    task.missing -= 1
                    if row in refused:
                        task.refused = task.refused or refused[row]
                    else:
                        self.embedded += 1
                    row += 1
            self._tell(task)

    def _tell(self, task: Task) -> None:
        self.progress.embedded(task.file.document, len(task.vectors) - task.missing, len(task.vectors))

    def _write(self, tasks: Sequence[Task]) -> None:
        """Store documents, and take away what they replace."""
        now = time.time()
        written: list[Written] = []
        gone: list[str] = []
        for task in tasks:
            if task.refused:
                continue
            cut = task.prepared.chunks
            if cut:
                digest = task.described.digest if task.described else ""
                version = Version(task.file.root, task.prepared.document_hash, len(cut), now, digest)
                vectors = np.stack([vector for vector in task.vectors if vector is not None])
                written.append(Written(task.file.document, version, cut, vectors))
            gone += [document for document in task.replaces if not cut or document != task.file.document]
        if written:
            self.store.create(recipe(self.embeddings, self.cutting), written[0].vectors.shape[1])
        if written or gone:
            self.deleted += self.store.put(written, gone)
            self.stored += sum(len(one.chunks) for one in written)
        for task in tasks:
            if task.refused:
                self.ended(task.file.document, "failed", staying(task.refused, stored=bool(task.replaces)))
            elif task.prepared.state == "read":
                self.ended(task.file.document, task.state, task.prepared.reason)
            else:
                self.ended(task.file.document, task.prepared.state, task.prepared.reason)
        self.progress.chunks(self.stored)


class _Look(_Run):
    """A run that only looks which texts there are to embed, file by file."""

    def ended(self, document: str, state: State, reason: str = "") -> None:
        pass

    def _advance(self, *, last: bool = False) -> None:
        self.under_way.clear()
        self.complete.clear()
