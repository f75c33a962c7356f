"""A collection of an embedded Chroma, asked through the keeper of its folder, which is started if there is none."""

import errno
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

import rag_app
from rag_app.endpoints.embeddings import Vectors
from rag_app.errors import RagError
from rag_app.store.locks import file_lock
from rag_app.store.stored import Changes, EmptyCollectionError, Listing, Near, StoredDocument, Written, is_database
from rag_app.types import Candidate, Chunk
from rag_app.words import msg

SOCKET, LOCK, LOG, BUSY = "keeper.sock", "keeper.lock", "keeper.log", "keeper.busy"
# A path of a socket may have so many bytes.
_LONGEST = 100
# Seconds for which a keeper waits for the next command.
IDLE = 20.0
_START = 60.0
_TRIES = 3


class KeptStore:
    """One collection in a folder. Any number of threads and processes may have it open."""

    def __init__(self, path: Path, collection: str, *, create: bool = False) -> None:
        """Open the collection. EmptyCollectionError if it is not there; `create` makes what is missing."""
        self.path = path.resolve()
        self.place = str(path)
        self.name = collection
        self._create = create
        self._closed = False
        if not create and not is_database(path):
            raise EmptyCollectionError.of(collection, self.place)
        _make_writable(path)
        self._keeper = Keeper.shared(self.path)
        if not create:
            try:
                self._ask("check")
            except RagError:
                self.close()
                raise

    def _ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._keeper.ask(self.name, self._create, method, *args, **kwargs)

    def close(self) -> None:
        """Let go of the keeper, which ends when nobody is connected any more."""
        if not self._closed:
            self._closed = True
            self._keeper.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def lock(self, part: str = "") -> AbstractContextManager[None]:
        return file_lock(self.path, self.name, part)

    @property
    def recipe(self) -> dict[str, str]:
        recipe: dict[str, str] = self._ask("recipe")
        return recipe

    @property
    def dimension(self) -> int | None:
        dimension: int | None = self._ask("dimension")
        return dimension

    @property
    def revision(self) -> str:
        return str(self._ask("revision"))

    def require(self, recipe: dict[str, str]) -> None:
        self._ask("require", recipe)

    def create(self, recipe: dict[str, str], dimension: int) -> Self:
        self._ask("create", recipe, dimension)
        return self

    def sibling(self, name: str) -> Self:
        return type(self)(Path(self.place), name, create=True)

    def replace(self, name: str) -> None:
        self._ask("replace", name)
        self.name = name

    def recover(self) -> None:
        self._ask("recover")

    def drop(self) -> None:
        self._ask("drop")
        self._create = True

    def count(self) -> int:
        return int(self._ask("count"))

    def nearest(self, vector: Vectors, n: int, only: Sequence[str] = ()) -> list[Candidate]:
        found: list[Candidate] = self._ask("nearest", vector, n, tuple(only))
        return found

    def near(self, vector: Vectors, n: int, only: Sequence[str] = ()) -> list[Near]:
        found: list[Near] = self._ask("near", vector, n, tuple(only))
        return found

    def chunks(self, found: Sequence[str]) -> dict[str, Chunk]:
        chunks: dict[str, Chunk] = self._ask("chunks", tuple(found))
        return chunks

    def rows_of(self, documents: Sequence[str]) -> dict[str, Chunk]:
        chunks: dict[str, Chunk] = self._ask("rows_of", tuple(documents))
        return chunks

    def changes(self, since: int = 0) -> Changes:
        changes: Changes = self._ask("changes", since)
        return changes

    def documents(self, names: Sequence[str] | None = None) -> dict[str, StoredDocument]:
        found: dict[str, StoredDocument] = self._ask("documents", names)
        return found

    def listing(self, folder: str = "", words: Sequence[str] = (), most: int = 1000) -> Listing:
        found: Listing = self._ask("listing", folder, tuple(words), most)
        return found

    def document(self, name: str) -> StoredDocument | None:
        found: StoredDocument | None = self._ask("document", name)
        return found

    def chunks_of(self, document: str, *, unfinished: bool = False) -> list[tuple[Chunk, Vectors]]:
        found: list[tuple[Chunk, Vectors]] = self._ask("chunks_of", document, unfinished=unfinished)
        return found

    def put(self, documents: Sequence[Written], gone: Sequence[str] = ()) -> int:
        return int(self._ask("put", list(documents), list(gone)))

    def forget(self, documents: Sequence[str]) -> dict[str, int]:
        forgotten: dict[str, int] = self._ask("forget", list(documents))
        return forgotten

    def wipe(self) -> None:
        self._ask("wipe")


def collections(path: Path) -> list[str]:
    """Return the names of the collections that there are in a folder."""
    names: list[str] = _of_the_folder(path, "collections") if is_database(path) else []
    return names


def backup(path: Path, target: Path) -> None:
    """Copy a folder's Chroma, between two writes of whoever writes. RagError if there is none, or the target is not empty."""
    if not is_database(path):
        raise RagError(msg("there is no Chroma in {path}", path=path), msg("check RAG_CHROMA_PATH"))
    _of_the_folder(path, "backup", target.resolve())


def build(path: Path, collection: str) -> None:
    """Have Chroma make the index of one of its collections from the log."""
    _of_the_folder(path, "build", collection)


def _of_the_folder(path: Path, method: str, *args: Any) -> Any:
    keeper = Keeper.shared(path.resolve())
    try:
        return keeper.ask("", False, method, *args)
    finally:
        keeper.close()


@contextmanager
def alone(path: Path, doing: str) -> Iterator[Path]:
    """Have a folder for oneself: its keeper ends, and whoever asks waits until the block ends, or is told what goes on."""
    folder = path.resolve()
    with suppress(FileNotFoundError, ConnectionError), connect(folder) as connection:
        connection.send(("", False, "stop", (), {}))
        connection.recv()
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=_START)
    except Timeout:
        raise RagError(msg("Chroma at {place} is in use", place=folder), msg("try again when that has ended")) from None
    except OSError as error:
        raise _unwritable(folder / LOCK, error) from None
    try:
        (folder / BUSY).write_text(doing, "utf-8")
        yield folder
    finally:
        (folder / BUSY).unlink(missing_ok=True)
        lock.release()


def _make_writable(path: Path) -> None:
    """Make a folder. RagError if it cannot be written to, which Chroma does also to read."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RagError(
            msg("{path} cannot be made ({reason})", path=path, reason=error.strerror or error), msg("check RAG_CHROMA_PATH")
        ) from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise RagError(
            msg("{path} is read-only, and Chroma writes there also to read", path=path),
            msg("make it writable for this user, or copy it to where it is writable and set RAG_CHROMA_PATH"),
        )


class Keeper:
    """The connections of this process to the keeper of a folder; one for each thread that asks at the same time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stores = 0
        self._free: list[tuple[object, Connection]] = []
        self._lock = threading.Lock()
        # Threads that find no keeper start one, not one each.
        self._starting = threading.Lock()

    @classmethod
    def shared(cls, folder: Path) -> Self:
        """Return this process's one keeper of a folder; whoever took it closes it."""
        with _LOCK:
            keeper: Self = _KEEPERS.setdefault(folder, cls(folder))
            keeper._stores += 1
        return keeper

    def close(self) -> None:
        """Let go of the keeper: the last of its stores to do so closes its connections."""
        with _LOCK:
            self._stores -= 1
            if self._stores:
                return
            _KEEPERS.pop(self.folder, None)
        with self._lock:
            free, self._free = self._free, []
        for _, connection in free:
            connection.close()

    def ask(self, collection: str, create: bool, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return what a method of the store gives there. RagError as it raises it, or if the keeper cannot be had."""
        for _ in range(_TRIES):
            at, connection = self._connected()
            try:
                connection.send((collection, create, method, args, kwargs))
                done, value = connection.recv()
            except (EOFError, OSError):
                # The keeper was killed, or its native code aborted, or it ended. All may be asked twice.
                connection.close()
                continue
            except BaseException:
                # Ctrl-C between question and answer: the next one would read this one's.
                connection.close()
                raise
            with self._lock:
                if self._stores:
                    self._free.append((at, connection))
                else:
                    connection.close()
            if done:
                return value
            raise value
        raise RagError(
            msg(
                "the process that has Chroma at {place} open ended while it was asked ({reason})",
                place=self.folder,
                reason=_last_words(self.folder),
            ),
            msg("run `rag-app repair`"),
        )

    def _connected(self) -> tuple[object, Connection]:
        now = identity(self.folder)
        with self._lock:
            free, self._free = self._free, []
            # The folder may have been deleted and made again: then there is another keeper.
            kept = [one for one in free if one[0] == now]
            found = kept.pop() if kept else None
            self._free = kept
        for at, connection in free:
            if at != now:
                connection.close()
        if found:
            return found
        with self._starting:
            return self._connect()

    def _connect(self) -> tuple[object, Connection]:
        """Return a new connection, to a keeper that is started where there is none."""
        started: Any = None
        deadline = time.monotonic() + _START
        while time.monotonic() < deadline:
            at = identity(self.folder)
            with suppress(FileNotFoundError, ConnectionError):
                return at, connect(self.folder)
            if (busy := _busy(self.folder)) and time.monotonic() > deadline - _START / 2:
                raise RagError(msg("Chroma at {place} cannot be opened ({reason})", place=self.folder, reason=busy))
            ended = started.poll() if started else 0
            if ended is not None and not busy:
                # It ended at once where another one was first, which may not listen yet.
                if ended:
                    break
                started = START(self.folder)
            time.sleep(0.02)
        raise RagError(
            msg("Chroma at {place} cannot be opened ({reason})", place=self.folder, reason=_last_words(self.folder)),
            msg("run `rag-app repair`"),
        )


def start(folder: Path) -> "subprocess.Popen[bytes]":
    """Start a keeper of a folder, which outlives this process."""
    source = str(Path(rag_app.__file__).parents[1])
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("RAG_")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [source, environment.get("PYTHONPATH", "")]))
    try:
        # Not through a link that somebody else may have put there.
        log = os.fdopen(os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb")
    except OSError as error:
        raise _unwritable(folder / LOG, error) from None
    if (folder / LOCK).exists() and not os.access(folder / LOCK, os.R_OK | os.W_OK):
        raise _unwritable(folder / LOCK, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    with log:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "rag_app.store.keeper", str(folder), str(IDLE)],
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    with _LOCK:
        # Held, for Python warns of a process that is forgotten while it runs.
        _STARTED[:] = [*(one for one in _STARTED if one.poll() is None), process]
    return process


def _unwritable(path: Path, error: OSError) -> RagError:
    return RagError(
        msg("{path} cannot be written ({reason})", path=path, reason=error.strerror or error), msg("check its permissions")
    )


def _busy(folder: Path) -> str:
    """Return what is done with a folder that nobody may ask meanwhile, if that goes on."""
    try:
        doing = (folder / BUSY).read_text("utf-8")
    except OSError:
        return ""
    lock = FileLock(folder / LOCK)
    with suppress(Timeout, OSError):
        lock.acquire(timeout=0)
        # It was killed.
        (folder / BUSY).unlink(missing_ok=True)
        lock.release()
        return ""
    return doing


def connect(folder: Path) -> Connection:
    """Return a connection to the keeper of a folder. OSError if none listens; RagError if it is another user's."""
    with socket.socket(socket.AF_UNIX) as client, address(folder) as path:
        client.connect(path)
        if _user_of(client, path) != os.getuid():
            # What it sends is taken at its word.
            raise RagError(
                msg("Chroma at {place} is in use by another user of this machine", place=folder),
                msg("run as that user, or share it by a Chroma server (RAG_CHROMA_URL)"),
            )
        return Connection(client.detach())


def _user_of(client: socket.socket, path: str) -> int:
    """Return the user of the process at the other end."""
    if not hasattr(socket, "SO_PEERCRED"):
        return Path(path).stat().st_uid
    told = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", told)[1])


@contextmanager
def address(folder: Path) -> Iterator[str]:
    """Lend the path of a folder's socket, as short as the system wants it."""
    path = str(folder / SOCKET)
    if len(os.fsencode(path)) <= _LONGEST or not Path("/proc/self/fd").is_dir():
        yield path
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{opened}/{SOCKET}"
    finally:
        os.close(opened)


def identity(folder: Path) -> object:
    """Return what tells the socket of a folder from one that was there before; None if there is none."""
    with suppress(OSError):
        found = (folder / SOCKET).stat()
        return found.st_dev, found.st_ino, found.st_ctime_ns
    return None


def _last_words(folder: Path) -> str:
    """Return what the keeper of a folder said last, on one line."""
    said = ""
    with suppress(OSError):
        said = (folder / LOG).read_text("utf-8", "replace")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:300] if lines else msg("it said nothing")


START: Callable[[Path], Any] = start
_KEEPERS: dict[Path, Any] = {}
_STARTED: list[Any] = []
_LOCK = threading.Lock()
