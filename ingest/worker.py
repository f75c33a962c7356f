"""Worker processes that read and cut files: what hangs, explodes or crashes there costs one file, never the run."""

import atexit
import hashlib
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import pebble

from ingest.chunk import Cutting, chunks
from ingest.metadata import Described
from ingest.readers.document import NoDocumentError
from ingest.readers.load import EXTRA, read
from ingest.readers.properties import stated
from rag_app.errors import RagError
from rag_app.types import Chunk
from rag_app.words import Message, joined, msg

PROCESSES = 2
T = TypeVar("T")
_MB = 1_000_000


@dataclass(frozen=True)
class Limits:
    """What one file may take: seconds, megabytes of address space (held on Linux alone), seconds more of OCR, 0 for none."""

    seconds: float = 120.0
    megabytes: int = 4000
    ocr_seconds: float = 0.0

    @property
    def all_seconds(self) -> float:
        return self.seconds + self.ocr_seconds


@dataclass(frozen=True)
class Prepared:
    """A file as read and cut, or why it was not; `reason` is a message."""

    state: Literal["read", "empty", "skipped", "failed"]
    reason: str = ""
    document_hash: str = ""
    chunks: list[Chunk] = field(default_factory=list)


class Workers:
    """A pool of processes that lives as long as the program; starting one takes a second or two."""

    def __init__(self, method: str = "") -> None:
        """`method` is how processes are started; by default by a fork server where there is one, else from scratch."""
        self._method = method or ("forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn")
        self._pool: pebble.ProcessPool | None = None
        self._lock = threading.Lock()

    def submit(
        self, path: Path, document: str, cutting: Cutting, limits: Limits, described: Described | None = None
    ) -> "Future[Prepared]":
        """Have a file read and cut; `result` tells what came of it."""
        return self._schedule(limits, prepare, path.absolute(), document, cutting, limits.ocr_seconds, described)

    def call(self, limits: Limits, work: Callable[..., T], *args: Any) -> T:
        """Return what a function of this project gives, done in a process of its own. RagError if it hangs, dies or fails."""
        try:
            return self._schedule(limits, work, *args).result()
        except RagError:
            raise
        except Exception as error:
            # As in `result`: whatever goes wrong with one file is its own failure.
            raise RagError(_why(error, limits)) from error

    def _schedule(self, limits: Limits, work: Callable[..., T], *args: Any) -> "Future[T]":
        with self._lock:
            if self._pool is None:
                self._pool = self._start()
        future: Future[T] = self._pool.schedule(_limited, args=(limits, work, *args), timeout=limits.all_seconds)
        return future

    def stop(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()
            self._pool = None

    def _start(self) -> pebble.ProcessPool:
        # Never forked from here, where threads hold locks; the children of a fork server are quick to come.
        context = multiprocessing.get_context(self._method)
        if self._method == "forkserver":
            context.set_forkserver_preload([__name__, *EXTRA])
        atexit.register(self.stop)
        return pebble.ProcessPool(PROCESSES, context=context)


# Those of this process.
WORKERS = Workers()


def result(future: "Future[Prepared]", limits: Limits) -> Prepared:
    """Return what came of a file; a reader that hung or died is a failure with its reason."""
    try:
        return future.result()
    except Exception as error:
        # Whatever goes wrong with one file is its failure, and no reason to stop.
        return Prepared("failed", _why(error, limits))


def _why(error: Exception, limits: Limits) -> Message:
    """Return why work in a process came to nothing."""
    if isinstance(error, TimeoutError):
        setting = "RAG_READ_TIMEOUT + RAG_OCR_TIMEOUT" if limits.ocr_seconds else "RAG_READ_TIMEOUT"
        return msg("reading it took more than {seconds:g} s ({setting})", seconds=limits.all_seconds, setting=setting)
    if isinstance(error, pebble.ProcessExpired):
        return msg(
            "its reader crashed (exit code {code}): open it and save it again, or exclude it in .ragignore",
            code=error.exitcode,
        )
    if isinstance(error, MemoryError):
        return msg("reading it took more than {mb:,} MB of memory (RAG_READ_MEMORY_MB)", mb=limits.megabytes)
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return msg("it cannot be read ({reason}): save it in another format, or exclude it in .ragignore", reason=reason)


def _limited(limits: Limits, work: Callable[..., T], *args: Any) -> T:
    """Do work within limits; in a worker."""
    _limit(limits.megabytes)
    _end_after(limits.all_seconds)
    try:
        return work(*args)
    finally:
        # An alarm that is left running would end an idle worker.
        _end_after(None)


def prepare(
    path: Path, document: str, cutting: Cutting, ocr_seconds: float = 0.0, described: Described | None = None
) -> Prepared:
    """Read and cut one file; in a worker."""
    try:
        content = path.read_bytes()
        found = read(path, content, ocr_seconds)
        cut = chunks(document, found, cutting)
    except OSError as error:
        return Prepared("failed", error.strerror or str(error))
    except NoDocumentError as error:
        return Prepared(error.state, error.message)
    notes = list(found.notes)
    if described:
        fields, unused = described.fields(*stated(content))
        notes += unused
        cut = [chunk.model_copy(update={"fields": fields}) for chunk in cut]
    return Prepared("read", joined("; ", notes), document_hash=hashlib.sha256(content).hexdigest(), chunks=cut)


def hash_file(path: Path) -> str:
    """Return what identifies a document: the SHA-256 of its file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _end_after(seconds: float | None) -> None:
    # Whoever started this process ends it in time, unless that one was killed itself.
    if sys.platform != "win32":
        signal.alarm(0 if seconds is None else int(seconds) + 30)


def _limit(megabytes: int) -> None:
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (megabytes * _MB, hard))
