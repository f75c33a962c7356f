"""The keeper: the one process that has an embedded Chroma open, and serves it to all others of this machine.

Chroma's embedded client goes on with the index in its memory when another process writes, and it keeps Python from doing
anything else while it writes. So nobody opens a folder but its keeper, which whoever comes first starts (`kept.py`); it ends
when nobody is connected any more. It listens on a socket in the folder, which only its own user may use: what is stored is
as private as the folder. When Chroma's native code aborts, it is the keeper that ends, and not who asked.
"""

import os
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack, closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rag_app.errors import RagError
from rag_app.store.chroma import ChromaStore, collections
from rag_app.store.chroma_client import Database
from rag_app.store.chroma_errors import StoppedError
from rag_app.store.chroma_files import copy
from rag_app.store.kept import LOCK, SOCKET, address, identity
from rag_app.store.stored import Where
from rag_app.words import msg

# Seconds between looks whether anybody is left.
_LOOK = 0.2
# What is no question: it waits for others that write, who let questions go first.
_WRITE = ("create", "recover", "replace", "drop", "put", "forget", "wipe", "backup", "build")
# What is asked of the folder, and not of one collection.
_OF_THE_FOLDER = ("stop", "collections", "backup", "build")


def serve(folder: Path, idle: float) -> None:
    """Serve a folder until nobody has been connected for so many seconds; return at once if another process does."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return
    with ExitStack() as opened:
        opened.callback(lock.release)
        server = opened.enter_context(socket.socket(socket.AF_UNIX))
        # One that a killed keeper left: nobody listens there, for the lock was free.
        (folder / SOCKET).unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            with address(folder) as path:
                server.bind(path)
        finally:
            os.umask(before)
        mine = identity(folder)
        opened.callback(_unlink, folder, mine)
        server.listen(64)
        server.settimeout(_LOOK)
        clients = _Clients(folder)
        opened.callback(clients.close)
        while not clients.stopped and (clients.connected or time.monotonic() - clients.left < idle):
            if not clients.connected and identity(folder) != mine:
                # The folder was deleted or put in another's place.
                return
            try:
                accepted, _ = server.accept()
            except TimeoutError:
                continue
            except OSError:
                # No more files may be opened: those who are connected are served on, and the next waits.
                time.sleep(_LOOK)
                continue
            accepted.setblocking(True)
            clients.take(Connection(accepted.detach()))


def _unlink(folder: Path, mine: object) -> None:
    if identity(folder) == mine:
        (folder / SOCKET).unlink(missing_ok=True)


class _Clients:
    """Who is connected, each in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.where = Where(folder)
        self.database = Database.shared(self.where)
        self.connected = 0
        self.left = time.monotonic()
        self.stopped = False
        self._stores: dict[tuple[str, bool], ChromaStore] = {}
        self._lock = threading.Lock()

    def take(self, connection: Connection) -> None:
        with self._lock:
            self.connected += 1
        threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """Close the stores when the write under way has ended: Chroma writes its files in place, and must not be cut off."""
        with closing(self.database) as database:
            # Not released: no write begins after this, and who waits to write goes with the process, and asks the next keeper.
            database.writing.acquire()
            database.stopped = True
            for store in self._stores.values():
                store.close()

    def _answer(self, connection: Connection) -> None:
        with connection, suppress(EOFError, OSError, StoppedError):
            while connection.poll(None):
                # From before it is read until it is sent: each lets Python's lock go, and the next write would take it.
                with ExitStack() as going_first:
                    going_first.enter_context(self.database.going_first())
                    asked = connection.recv()
                    if asked[2] in _WRITE:
                        going_first.close()
                    if asked[2] in ("nearest", "near"):
                        self.database.expect_more()
                    connection.send(self._reply(*asked))
                # The next keeper opens it.
                self.stopped = self.stopped or self.database.to_reopen
        with self._lock:
            self.connected -= 1
            self.left = time.monotonic()

    def _reply(self, collection: str, create: bool, method: str, args: Any, kwargs: Any) -> tuple[bool, Any]:
        try:
            if method in _OF_THE_FOLDER:
                return True, self._of_the_folder(method, *args)
            store = self._store(collection, create)
            found = getattr(store, method)
            value = found(*args, **kwargs) if callable(found) else found
            if method == "replace":
                self._let_go(collection, create)
            return True, None if value is store else value
        except RagError as error:
            return False, error
        except StoppedError:
            raise
        except Exception as error:
            # Whoever asked is to hear of it, and the others to be served on.
            kind = type(error).__name__
            return False, RagError(msg("Chroma at {place}: {reason}", place=self.where.place, reason=f"{kind}: {error}"))

    def _of_the_folder(self, method: str, *args: Any) -> Any:
        if method == "stop":
            self.stopped = True
            return None
        if method == "collections":
            return collections(self.where)
        with self.database.writing:
            if method == "build":
                client = self.database.client
                self.database.call(lambda: self.database.ready(client.get_collection(*args, embedding_function=None)))
                return None
            return copy(self.where.path, *args)

    def _let_go(self, collection: str, create: bool) -> None:
        """Forget a store that has another collection's name now: under its old one there may soon be a new collection."""
        with self._lock:
            store = self._stores.pop((collection, create), None)
        if store is not None:
            store.close()

    def _store(self, collection: str, create: bool) -> ChromaStore:
        with self._lock:
            key = collection, create
            if key not in self._stores:
                self._stores[key] = ChromaStore(self.where, collection, create=create)
            return self._stores[key]


if __name__ == "__main__":
    # A machine that is shut down says so first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    serve(Path(sys.argv[1]), float(sys.argv[2]))
