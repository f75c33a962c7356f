"""Jobs: ingest runs in threads of the page's process, so that whoever started one may close the browser."""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ingest import sync
from ingest.files import File, Found
from ingest.planning import Failure, Plan, look_through
from ingest.reindex import reindex as rebuild
from ingest.sync import Progress, Report
from rag_app.endpoints.embeddings import Embeddings
from rag_app.endpoints.opening import open_embeddings
from rag_app.errors import RagError
from rag_app.lexical.kept import bring_in_step
from rag_app.settings import Settings
from rag_app.store.opening import open_store
from rag_app.store.protocol import Store
from rag_app.words import msg

log = logging.getLogger(__name__)
KEPT = 10


@dataclass
class FileState:
    """How far a file has come: `waiting`, `embedding` with chunks done of how many, or the state that it ended in."""

    state: str = "waiting"
    done: int = 0
    chunks: int = 0
    reason: str = ""


@dataclass
class Job:
    """One run: what it is called, its files by document, and its report or error once it has ended."""

    id: int
    collection: str
    label: str
    started: float
    files: dict[str, FileState] = field(default_factory=dict)
    unchanged: int = 0
    stored: int = 0
    report: Report | None = None
    error: RagError | None = None
    ended: float | None = None

    def file(self, document: str) -> FileState:
        return self.files.setdefault(document, FileState())

    def progress(self) -> Progress:
        """Return the callbacks that keep this record; they come from several threads, each setting what is its own."""

        def planned(plan: Plan) -> None:
            for document in (*plan.added, *plan.changed, *(new for _, new in plan.moved)):
                self.file(document)

        def embedded(document: str, n: int, of: int) -> None:
            state = self.file(document)
            state.state, state.done, state.chunks = "embedding", n, of

        def ended(document: str, state: str, reason: str) -> None:
            if state == "unchanged":
                self.unchanged += 1
                return
            file = self.file(document)
            file.state, file.reason = state, reason

        def stored(n: int) -> None:
            self.stored = n

        return Progress(plan=planned, embedded=embedded, file=ended, chunks=stored)


class Jobs:
    """The runs of this process, newest last; those on one collection wait for each other."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._ids = itertools.count(1)
        self._turns: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def start(self, collection: str, label: str, work: Callable[[Progress], Report], refused: Sequence[Failure] = ()) -> Job:
        """Run work in a thread; `refused` are files that did not get as far as that."""
        job = Job(next(self._ids), collection, label, time.time())
        for failure in refused:
            job.files[failure.path] = FileState("refused", reason=failure.reason)
        with self._lock:
            self._jobs = [*self._jobs, job][-KEPT:]
            turn = self._turns.setdefault(collection, threading.Lock())
        threading.Thread(target=self._run, args=(job, work, turn), name=f"job-{job.id}", daemon=True).start()
        return job

    def of(self, collection: str) -> list[Job]:
        """Return the runs on a collection, newest first."""
        return [job for job in reversed(self._jobs) if job.collection == collection]

    def _run(self, job: Job, work: Callable[[Progress], Report], turn: threading.Lock) -> None:
        try:
            with turn:
                job.report = work(job.progress())
        except RagError as error:
            job.error = error
        except Exception as error:
            # Nobody waits for this thread: what is left unsaid here would be said nowhere.
            log.exception("job %s failed", job.label)
            job.error = RagError(
                msg("{run} failed: {kind}: {reason}", run=job.label, kind=type(error).__name__, reason=str(error)),
                msg("see the log; nothing was left half-written"),
            )
        finally:
            job.ended = time.time()


def ingest_folder(settings: Settings, path: Path | None, progress: Progress) -> Report:
    """Make the collection equal to what lies below a path, as `rag-app ingest` does. RagError if there is none."""
    if path is None:
        raise RagError(msg("no file was accepted"), msg("see the reason beside each"))
    cutting, limits = sync.cutting_and_limits(settings)
    with _opened(settings, progress, create=True) as (store, embeddings):
        return sync.ingest(look_through([path], store), store, embeddings, cutting, limits, progress)


def embed_again(settings: Settings, documents: Sequence[str], progress: Progress) -> Report:
    """Read, cut and embed some documents again, whatever is stored of them. RagError if a file is gone."""
    cutting, limits = sync.cutting_and_limits(settings)
    with _opened(settings, progress) as (store, embeddings):
        chosen = list(store.documents(documents).values())
        if gone := [d.document for d in chosen if not d.path.is_file()]:
            raise RagError(
                msg("{document} cannot be re-embedded: its file is missing", document=gone[0]),
                msg("restore the file, or delete the document"),
            )
        found = Found([File(d.path, d.version.root, d.document) for d in chosen], [d.path for d in chosen])
        return sync.ingest(found, store, embeddings, cutting, limits, progress, prune=False, reembed=True)


def reindex(settings: Settings, progress: Progress) -> Report:
    """Make the collection again from its documents' files, as `rag-app reindex` does."""
    cutting, limits = sync.cutting_and_limits(settings)
    with _opened(settings, progress) as (store, embeddings):
        return rebuild(store, embeddings, cutting, limits, progress)


@contextmanager
def _opened(settings: Settings, progress: Progress, *, create: bool = False) -> Iterator[tuple[Store, Embeddings]]:
    """Lend the store and the embeddings; what was changed is taken into the lexical index at the end."""
    with open_store(settings, create=create) as store, closing(open_embeddings(settings)) as embeddings:
        yield store, embeddings
        bring_in_step(store, settings, progress.lexical)
