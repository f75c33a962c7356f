"""One at a time: what changes a collection holds its lock, and a second one is told by whom."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rag_app.errors import RagError
from rag_app.store.protocol import Store
from rag_app.words import msg

_held = threading.local()


@contextmanager
def collection_lock(store: Store) -> Iterator[None]:
    """Hold the lock of a collection; RagError, which names the holder, if another process or thread has it.

    It is a file beside an embedded Chroma, which the system lets go of when its process ends, however it ends. Of a server
    it is a file of this machine: ingests from two machines into one server do not see each other.
    """
    mine: set[Path] = _held.__dict__.setdefault("locks", set())
    path = store.lock_file
    if path in mine:
        yield
        return
    holder = path.with_suffix(".holder")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except OSError as error:
        if not isinstance(error, Timeout):
            raise RagError(
                msg("{path} cannot be locked ({reason})", path=path, reason=error.strerror or error),
                msg("check its permissions"),
            ) from None
        who: str = msg("another process")
        with suppress(OSError, ValueError):
            pid, started = holder.read_text("utf-8").split(maxsplit=1)
            who = msg("process {pid}, started {started}", pid=pid, started=started)
        raise RagError(
            msg("collection {collection} is being changed by {who}", collection=store.name, who=who),
            msg("wait until that has ended, or stop it"),
        ) from None
    try:
        holder.write_text(f"{os.getpid()} {time.strftime('%Y-%m-%d %H:%M:%S')}", "utf-8")
        mine.add(path)
        store.repair()
        yield
    finally:
        mine.discard(path)
        holder.unlink(missing_ok=True)
        lock.release()
