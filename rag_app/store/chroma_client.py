"""Chroma's client, opened once for all stores of this process: of an embedded folder, or of a server."""

import re
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, NamedTuple, Self, TypeVar, cast
from urllib.parse import urlsplit

import chromadb
import httpx
from chromadb.api import fastapi
from chromadb.api.models.Collection import Collection
from chromadb.config import Settings as ChromaSettings
from chromadb.config import System
from chromadb.errors import ChromaError, NotFoundError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from rag_app.endpoints import network
from rag_app.errors import RagError
from rag_app.store import chroma_errors as errors
from rag_app.store import chroma_files
from rag_app.store.chroma_errors import MissingError, StoppedError
from rag_app.store.stored import REPLACED, Where, is_database
from rag_app.words import msg

T = TypeVar("T")
# In a collection's metadata: the collection of its documents' rows.
DOCUMENTS = "documents"
# And whether all its chunks are of versions that are seen: no write is under way, or broke off.
CLEAN = "clean"
# A server that says nothing for so long is taken for gone; Chroma's own client waits without end.
_TIMEOUT = httpx.Timeout(120.0, connect=10.0)
# Chroma Cloud takes ten reads and ten writes of a collection at once.
_AT_ONCE = 8
_TRIES = 30
# While a question was asked so lately, in seconds, so many records are written at once.
_LATELY, _SMALL = 5.0, 10
_BREATH = 0.002
# Seconds for which who writes lets readers go first, however many there are; then not again for a while.
_PATIENCE = 1.0
_QUOTA = re.compile(r"Quota exceeded: '(?P<what>[^']+)'.*exceeds limit of (?P<most>\d+)")


class _DirectAPI(fastapi.FastAPI):
    """Chroma's client of a server, on the network as every other client sees it: Chroma has no setting for proxies."""

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self._session.close()
        self._session = httpx.Client(
            timeout=_TIMEOUT, limits=self.http_limits, headers=self._session.headers, **network.options(self._api_url)
        )


# Chroma looks its client up by this name, and takes none of another.
fastapi.FastAPI = _DirectAPI  # type: ignore[misc]


class Opened(NamedTuple):
    """A collection of chunks, and that of its documents' rows."""

    chunks: Collection
    documents: Collection


class Limits:
    """How many records Chroma takes or gives in one call; what a server refuses it is not asked for again."""

    def __init__(self, *, server: bool) -> None:
        # Small writes keep questions from waiting; half as many again cost nothing more on a server.
        self.written = 200 if server else 1000
        self.read = 5000
        self.found = 5000

    @property
    def known(self) -> tuple[int, int, int]:
        """What differs once something was learned."""
        return self.written, self.read, self.found

    def learn(self, error: Exception) -> None:
        """Take note of a refusal."""
        told = _QUOTA.search(str(error))
        if told is None or not (most := int(told["most"])):
            return
        if told["what"] == "Number of records":
            self.written = min(self.written, most)
            self.read = min(self.read, most)
        elif told["what"] == "Limit value":
            self.read = min(self.read, most)
        elif told["what"] == "Number of results":
            self.found = min(self.found, most)


class Database:
    """One Chroma, shared by the stores of this process."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.place = where.place
        self.limits = Limits(server=bool(where.url))
        self.lock = threading.RLock()
        self._turns = threading.Semaphore(_AT_ONCE)
        self._asked = float("-inf")
        self._waited = float("-inf")
        self._reading = 0
        self._quiet = threading.Condition()
        self._stores = 0
        self._client: Any = None
        self._ready: set[Any] = set()
        # By id of a collection, what is wrong with its index.
        self._torn: dict[str, str] = {}
        # Set by a keeper that ends: nothing is opened again.
        self.stopped = False
        # Set when all is to be opened anew, by the next keeper.
        self.to_reopen = False
        self._wipes, self._wiping = 0, False
        self._known: dict[str, Opened] = {}
        self.tags: dict[Any, dict[str, str]] = {}
        # Since when all chunks of a version are there, by `time.monotonic()`: by its mark, as who wrote it says, embedded; on a
        # server by document and mark, as it was first met.
        self.whole: dict[str, float] = {}
        self.first_met: dict[tuple[str, str], float] = {}
        self._writes = self._version = 0
        # Held by whoever writes: a backup is made between two writes.
        self.writing = threading.RLock()

    @classmethod
    def shared(cls, where: Where) -> Self:
        """Return this process's one database of a place; whoever took it closes it."""
        key = where if where.url else where.path.resolve()
        with _LOCK:
            database: Self = _DATABASES.setdefault(key, cls(where))
            database._stores += 1
        return database

    def close(self) -> None:
        """Let go of the database: the last of its stores to do so closes its files and connections."""
        with _LOCK:
            self._stores -= 1
            if self._stores:
                return
            for key in [key for key, database in _DATABASES.items() if database is self]:
                del _DATABASES[key]
        with self.lock:
            client, self._client = self._client, None
            self._ready.clear()
        if client is not None:
            if self.where.url:
                # Chroma does not close its connections to a server.
                for api in (client, client._admin_client):
                    api._server._session.close()
            client.close()

    def call(self, do: Callable[[], T]) -> T:
        """Return what a call of Chroma gives. RagError for what it raises.

        A server that is busy is asked again, and so is one that told a limit: `do` looks into `limits` each time.
        """
        while True:
            wipes, known = self._wipes, self.limits.known
            try:
                return self._patiently(do)
            except NotFoundError as error:
                raise MissingError(
                    msg("Chroma at {place}: {reason}", place=self.place, reason=error), msg("try again")
                ) from error
            except (ChromaError, ValueError, OSError, RuntimeError, sqlite3.Error, httpx.HTTPError) as error:
                self.limits.learn(error)
                if self.limits.known != known:
                    # By this refusal, or by that of another thread meanwhile.
                    continue
                if self._wipes != wipes or self._wiping:
                    # SQLite shuts everybody out while its file is written anew, of which Chroma says other things.
                    with self.writing:
                        continue
                # Chroma keeps a transaction open that a full disk broke off, and is locked from then on.
                self.to_reopen = self.to_reopen or errors.is_full(self.where, error)
                raise errors.named(self.where, error) from error

    def _patiently(self, do: Callable[[], T]) -> T:
        for attempt in Retrying(
            retry=retry_if_exception(errors.passes),
            wait=wait_random_exponential(multiplier=0.2, max=10),
            stop=stop_after_attempt(10),
            reraise=True,
        ):
            with attempt, self._turns if self.where.url else nullcontext():
                return do()
        raise AssertionError

    @property
    def client(self) -> Any:
        """Chroma's client, opened when it is first needed."""
        with self.lock:
            if self.stopped:
                raise StoppedError
            if self._client is None:
                self._client = self._open()
            return self._client

    @contextmanager
    def going_first(self) -> Iterator[None]:
        """Read before those who write: until the end none begins another write.

        Embedded, Chroma holds Python's lock while it writes, so that a reader would wait again between its own calls.
        """
        with self._quiet:
            self._reading += 1
        try:
            yield
        finally:
            with self._quiet:
                self._reading -= 1
                self._quiet.notify_all()

    def expect_more(self) -> None:
        """Have writes be small for a while: a question was asked, and the next is not to wait long."""
        self._asked = time.monotonic()

    def most_written(self) -> int:
        """Let readers go first; then return how many records to write at once. A server sees to its clients itself."""
        if self.where.url:
            return self.limits.written
        lately = time.monotonic() - self._asked < _LATELY
        if lately:
            # For a question that has just come to get hold of Python's lock.
            time.sleep(_BREATH)
        with self._quiet:
            if time.monotonic() > self._waited + _LATELY and not self._quiet.wait_for(lambda: not self._reading, _PATIENCE):
                # There are always some, or one that does not take its answer.
                self._waited = time.monotonic()
        return min(self.limits.written, _SMALL if lately else self.limits.written)

    @contextmanager
    def write(self) -> Iterator[None]:
        """Write alone. What was kept of the collections is forgotten at the beginning and at the end."""
        with self.writing:
            self._writes += 1
            self._forget()
            try:
                yield
            finally:
                self._writes -= 1
                self._forget()

    def _forget(self) -> None:
        self._version += 1
        self._known, self.tags = {}, {}

    @property
    def state(self) -> int | None:
        """Another number after each write; None while one is under way, and of a server, which others write to.

        What was read between two times at which it is the same number was not changed in between.
        """
        return None if self.where.url or self._writes else self._version

    def there(self, name: str) -> bool:
        """Whether there is a collection of that name, whoever made it."""
        with suppress(MissingError):
            self.call(lambda: self.client.get_collection(name, embedding_function=None))
            return True
        return False

    def wipe(self) -> None:
        """Take the text of what was deleted out of an embedded Chroma's file; questions wait meanwhile."""
        with self.writing:
            self._wiping = True
            try:
                chroma_files.wipe(self.where.path)
            except OSError as error:
                raise errors.named(self.where, error) from error
            finally:
                self._wipes += 1
                self._wiping = False

    def collection(self, name: str) -> Opened | None:
        """Return a collection as it is now, or None if there is none."""
        state, known = self.state, self._known
        if state is not None and name in known:
            return known[name]
        # A reindex is, or was interrupted, between its two renames.
        for written in (name, f"{name}{REPLACED}"):
            with suppress(MissingError):
                found = self.call(partial(self._get, written))
                if state is not None:
                    # Into what has been put away, if somebody has begun to write.
                    known[name] = found
                return found
        return None

    def _get(self, name: str) -> Opened:
        # The vectors come from our own endpoint: Chroma must not bring a model.
        chunks = self.client.get_collection(name, embedding_function=None)
        rows = (chunks.metadata or {}).get(DOCUMENTS)
        if not rows:
            raise errors.foreign(self.where, name)
        return Opened(chunks, self.client.get_collection(rows, embedding_function=None))

    def ready(self, collection: Collection) -> Collection:
        """Return one of Chroma's collections, to be read from or written to. RagError if its index is damaged."""
        if collection.id not in self._ready:
            if torn := self._torn.get(str(collection.id)):
                raise errors.index_damaged(self.where, torn)
            # Read before anything is written: Chroma applies what its index on disk lacks at a process's first read. Where that
            # comes after writes, it applies those once more, as changes, at ten times their cost.
            self.call(collection.count)
            self._ready.add(collection.id)
        return collection

    def create(self, name: str, metadata: dict[str, Any], configuration: Any) -> None:
        """Make a collection with that of its documents, if it is not there."""
        rows = f"{name[:80]}.{DOCUMENTS}-{secrets.token_hex(6)}"
        made = self.call(
            lambda: self.client.get_or_create_collection(
                name, embedding_function=None, metadata={**metadata, DOCUMENTS: rows}, configuration=configuration
            )
        )
        # Another ingest may have been first, or have broken off here.
        rows = (made.metadata or {}).get(DOCUMENTS, rows)
        if not self.there(rows):
            self._make_rows(rows, str(made.id))

    def _make_rows(self, name: str, after: str) -> None:
        """Make the collection of documents' rows, with an id after that of the chunks.

        Chroma lists collections by id, which is random: who looks into it with other tools is to find the chunks first.
        """
        for turn in range(_TRIES):
            own = f"{name}-{secrets.token_hex(4)}"
            candidate = self.call(partial(self.client.create_collection, own, embedding_function=None))
            if str(candidate.id) > after or turn == _TRIES - 1:
                break
            self.delete_one(own)
        try:
            self.call(lambda: candidate.modify(name=name))
        except RagError:
            # Another ingest was first.
            self.delete_one(own)
            if not self.there(name):
                raise

    def rename(self, name: str, new: str) -> None:
        """Give a collection another name, if it is there."""
        with suppress(MissingError):
            self.call(lambda: self.client.get_collection(name, embedding_function=None).modify(name=new))

    def delete(self, name: str) -> None:
        """Delete a collection with its documents, if it is there."""
        with suppress(MissingError):
            found = self.call(lambda: self.client.get_collection(name, embedding_function=None))
            self.delete_one(name)
            if rows := (found.metadata or {}).get(DOCUMENTS):
                self.delete_one(rows)

    def delete_one(self, name: str) -> None:
        """Delete one of Chroma's collections, if it is there."""
        with suppress(MissingError):
            self.call(lambda: self.client.delete_collection(name))

    def all_names(self, prefix: str) -> list[str]:
        """Return the names of all of Chroma's collections that begin so."""
        return [collection.name for collection in self._all() if collection.name.startswith(prefix)]

    def names(self) -> list[str]:
        """Return the names of all collections of chunks."""
        return [collection.name for collection in self._all() if (collection.metadata or {}).get(DOCUMENTS)]

    def _all(self) -> list[Any]:
        found: list[Any] = []
        page: Any = [None]
        while page:
            page = self.call(partial(self._page_of_names, len(found)))
            found += page
        return found

    def _page_of_names(self, offset: int) -> Any:
        return self.client.list_collections(limit=100, offset=offset)

    def _open(self) -> Any:
        settings = ChromaSettings(anonymized_telemetry=False)
        if not self.where.url:
            chroma_files.check_database(self.where.path)
            if is_database(self.where.path):
                found = (
                    (index.id, chroma_files.torn(self.where.path, index)) for index in chroma_files.indexes(self.where.path)
                )
                self._torn = {name: how for name, how in found if how}
            return chromadb.PersistentClient(self.where.path.resolve(), settings=settings)
        key = self.where.key.get_secret_value()
        place = {"tenant": self.where.tenant, "database": self.where.database}
        return chromadb.HttpClient(
            # With its path: Chroma takes a whole URL for a host.
            host=self.where.url,
            ssl=urlsplit(self.where.url).scheme == "https",
            headers={"X-Chroma-Token": key} if key else {},
            settings=settings,
            **cast("Any", {name: value for name, value in place.items() if value}),
        )


_DATABASES: dict[Any, Any] = {}
_LOCK = threading.Lock()


def revision(collection: Collection) -> str:
    """Return what differs after each change of a collection."""
    return f"{collection.id}/{(collection.metadata or {}).get('written')}"
