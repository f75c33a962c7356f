"""Several answers read at once, each as it comes."""

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from rag_app.endpoints.chat import Answering


def together(answerings: Sequence[Answering], every: float | None = None) -> Iterator[tuple[int, str] | None]:
    """Yield (which, piece) of several answers as they come, each read in a thread of its own; None when nothing came for
    `every` seconds.

    What one of them raises is raised once all have ended. Whoever stops listening stops them.
    """
    pieces: queue.SimpleQueue[tuple[int, str | None]] = queue.SimpleQueue()
    stopped = threading.Event()

    def read(which: int) -> None:
        try:
            for piece in answerings[which]:
                pieces.put((which, piece))
                if stopped.is_set():
                    return
        finally:
            pieces.put((which, None))

    pool = ThreadPoolExecutor(len(answerings))
    readers = [pool.submit(read, which) for which in range(len(answerings))]
    left = len(readers)
    try:
        while left:
            try:
                which, piece = pieces.get(timeout=every)
            except queue.Empty:
                yield None
                continue
            if piece is None:
                left -= 1
            else:
                yield which, piece
    finally:
        stopped.set()
        # Who left does not wait for the next piece, after which the readers end.
        pool.shutdown(wait=False)
    for reader in readers:
        reader.result()
