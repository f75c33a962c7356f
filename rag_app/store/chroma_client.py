"""Chroma's client, opened once for all stores of this process, and again when another process wrote to its folder."""

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import chromadb
import httpx
from chromadb.api import fastapi
from chromadb.api.models.Collection import Collection
from chromadb.config import Settings as ChromaSettings
from chromadb.config import System
from chromadb.errors import ChromaError, NotFoundError

from rag_app.endpoints import network
from rag_app.errors import RagError
from rag_app.store.stored import DATABASE, REPLACED
from rag_app.words import Message, msg

_LITTLE_ROOM = 10_000_000


class _DirectAPI(fastapi.FastAPI):
    """Chroma's client of a server, on the network as every other client sees it: Chroma has no setting for proxies."""

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self._session.close()
        self._session = httpx.Client(
            timeout=self._session.timeout,
            limits=self.http_limits,
            headers=self._session.headers,
            **network.options(self._api_url),
        )


# Chroma looks its client up by this name, and takes none of another.
fastapi.FastAPI = _DirectAPI  # type: ignore[misc]


@dataclass(eq=False)
class _Opening:
    """A client, and how many use it: the database itself while it is the current one, and every call under way."""

    client: Any
    number: int
    users: int = 1


@dataclass(frozen=True)
class _Known:
    """A collection as last read, over which opening, and the state of the folder's files before that."""

    collection: Collection
    opening: _Opening
    stamps: list[tuple[int, int]]


class Database:
    """One Chroma, embedded (a folder) or a server (a URL), shared by the stores of this process.

    An embedded one goes on with the index in its memory when another process writes. It is opened again then; the old
    client is closed when the last call that uses it has ended.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.url = url
        self.place = url or str(path)
        self.lock = threading.RLock()
        self._stores = 0
        self._opening: _Opening | None = None
        self._numbers: set[int] = set()
        self._known: dict[str, _Known] = {}

    @classmethod
    def shared(cls, path: Path, url: str) -> Self:
        """Return this process's one database of a folder or URL; whoever took it closes it."""
        database: Self = _DATABASES.setdefault(url or str(path.resolve()), cls(path, url))
        with database.lock:
            database._stores += 1
        return database

    def close(self) -> None:
        """Let go of the database: the last of its stores to do so closes its files and connections."""
        with self.lock:
            self._stores -= 1
            if not self._stores:
                self._known.clear()
                self._retire()

    @contextmanager
    def collection(self, name: str, *, reopen: bool = False) -> Iterator[Collection | None]:
        """Lend a collection as it is now, or None if there is none; it works until the block ends.

        RagError for what Chroma raises in the block. `reopen` forgets the index in memory.
        """
        with self._client():
            with self.lock:
                found, opening = self._read(name, reopen), self._taken()
            try:
                yield found
            finally:
                self._release(opening)

    def known(self, name: str) -> Collection | None:
        """Return a collection as it was when it was last used."""
        known = self._known.get(name)
        return known.collection if known else None

    def note(self, name: str) -> None:
        """Take a collection as it is now for known: this process changed it itself, and has the change in memory."""
        with self._client(), self.lock:
            self._known.pop(name, None)
            self._read(name, False)

    def create(self, name: str, **options: Any) -> None:
        """Make a collection, if it is not there."""
        with self._client() as client:
            client.get_or_create_collection(name, embedding_function=None, **options)
            self.note(name)

    def rename(self, name: str, new: str) -> None:
        """Give a collection another name, if it is there."""
        with self._client() as client, suppress(NotFoundError):
            client.get_collection(name, embedding_function=None).modify(name=new)

    def delete(self, name: str) -> None:
        """Delete a collection, if it is there."""
        with self._client() as client:
            with suppress(NotFoundError):
                client.delete_collection(name)
            self._known.pop(name, None)

    def names(self) -> list[str]:
        """Return the names of all collections."""
        with self._client() as client:
            return [collection.name for collection in client.list_collections()]

    @property
    def most_at_once(self) -> int:
        """How many records Chroma takes in one call."""
        with self._client() as client:
            return int(client.get_max_batch_size())

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """Lend the client, which stays open until the block ends. RagError for what Chroma raises in it."""
        try:
            with self.lock:
                opening = self._taken()
            try:
                yield opening.client
            finally:
                self._release(opening)
        except (ChromaError, ValueError, OSError, RuntimeError, sqlite3.Error, httpx.HTTPError) as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise RagError(msg("Chroma at {place}: {reason}", place=self.place, reason=reason), self._remedy()) from error

    def _read(self, name: str, reopen: bool) -> Collection | None:
        """Return a collection as it is now. What another process wrote since it was last read is seen by opening again."""
        stamps, known = self._stamps(), self._known.get(name)
        loaded = known if known and known.opening is self._opening else None
        if loaded and loaded.stamps == stamps and not (self.url or reopen):
            return loaded.collection
        found = self._get(name)
        if not self.url and (reopen or (loaded and found and revision(loaded.collection) != revision(found))):
            self._retire()
            found = self._get(name)
        if found:
            # The stamps of before: what is written meanwhile is seen by the next call.
            self._known[name] = _Known(found, self._current(), stamps)
        else:
            self._known.pop(name, None)
        return found

    def _get(self, name: str) -> Collection | None:
        # A reindex is, or was interrupted, between its two renames.
        for written in (name, f"{name}{REPLACED}"):
            with suppress(NotFoundError):
                # The vectors come from our own endpoint: Chroma must not bring a model.
                found: Collection = self._current().client.get_collection(written, embedding_function=None)
                return found
        return None

    def _current(self) -> _Opening:
        if self._opening is None:
            number = next(n for n in count() if n not in self._numbers)
            self._opening = _Opening(self._open(number), number)
            self._numbers.add(number)
        return self._opening

    def _taken(self) -> _Opening:
        opening = self._current()
        opening.users += 1
        return opening

    def _retire(self) -> None:
        opening, self._opening = self._opening, None
        if opening:
            self._release(opening)

    def _release(self, opening: _Opening) -> None:
        with self.lock:
            opening.users -= 1
            if opening.users:
                return
            self._numbers.discard(opening.number)
            if self.url:
                # Chroma does not close its connections to a server.
                for api in (opening.client, opening.client._admin_client):
                    api._server._session.close()
            opening.client.close()

    def _open(self, number: int) -> Any:
        settings = ChromaSettings(anonymized_telemetry=False)
        if not self.url:
            # Chroma shares what is open in a process by the path as written: another number, another opening.
            return chromadb.PersistentClient(f"{self.path.resolve()}{'/.' * number}", settings=settings)
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        return chromadb.HttpClient(
            host=parts.hostname or "", port=parts.port or (443 if secure else 80), ssl=secure, settings=settings
        )

    def _stamps(self) -> list[tuple[int, int]]:
        """Return time and size of the files that an embedded Chroma writes first."""
        stamps = []
        for name in (DATABASE, f"{DATABASE}-wal"):
            with suppress(OSError):
                state = (self.path / name).stat()
                stamps.append((state.st_mtime_ns, state.st_size))
        return stamps

    def _remedy(self) -> Message:
        # Chroma's own message does not name a full disk.
        if not self.url and self.path.is_dir() and (free := shutil.disk_usage(self.path).free) < _LITTLE_ROOM:
            return msg("its disk has only {free:.1f} MB left: free some space and run the same command again", free=free / 1e6)
        return msg("check RAG_CHROMA_PATH or RAG_CHROMA_URL")


_DATABASES: dict[str, Any] = {}


def revision(collection: Collection) -> tuple[str, str]:
    """Return what differs after each change of a collection that was made known by `touch`."""
    return str(collection.id), str((collection.metadata or {}).get("written"))
