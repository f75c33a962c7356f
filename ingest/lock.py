"""One at a time: what changes a collection holds its lock, and a second one is told by whom."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rag_app.store.protocol import Store

_held = threading.local()


@contextmanager
def collection_lock(store: Store, part: str = "") -> Iterator[None]:
    """Hold the lock of a collection, or of a part such as 3/8; RagError, which names the holder, if somebody else has it."""
    mine: set[tuple[str, str]] = _held.__dict__.setdefault("locks", set())
    key = store.place, store.name
    if key in mine:
        yield
        return
    with store.lock(part):
        mine.add(key)
        try:
            if not part:
                store.recover()
            yield
        finally:
            mine.discard(key)
