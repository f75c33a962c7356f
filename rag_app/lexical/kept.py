"""The lexical index of a collection, kept in step with the store."""

import hashlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import orjson
from filelock import FileLock

from rag_app.errors import RagError
from rag_app.lexical.index import Found, Index
from rag_app.settings import Settings
from rag_app.store.protocol import Store
from rag_app.types import Chunk
from rag_app.words import msg

log = logging.getLogger(__name__)
# Raise it when the same text has other terms, or what is kept another form: then the index is made anew.
FORMAT = 2
# Clocks of machines that write to one server differ by so much at most; in nanoseconds.
_SKEW = 600 * 1_000_000_000
# Documents that are read at once, and that are written at once.
_READ, _WRITTEN = 50, 5000
# Seconds between two looks in the background, while somebody else writes.
_PAUSE = 2.0
_STATE = "state.json"


class State(NamedTuple):
    """What the index on disk is in step with: the store's revision, its last change, and its number of documents."""

    revision: str
    last: int
    n_documents: int
    format: int = FORMAT


_NOTHING = State("", 0, 0)


class LexicalIndex:
    """Finds chunks of a store by their words.

    The folder is a cache: it may be deleted at any time, and any number of processes may use it.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = place_of(folder, store.place) / store.name
        self._index: Index | None = None
        # What the index that is open is in step with.
        self._seen = ""
        self._refreshing = threading.Lock()
        self._background: threading.Thread | None = None
        self._next_look = 0.0

    def close(self) -> None:
        """Wait for what is being taken in."""
        if self._background:
            self._background.join()

    def search(self, question: str, n: int, only: Sequence[str] = ()) -> list[Found]:
        """Return at most n chunks that share a term with the question, best first.

        The first question waits until the index is in step. While others write, the index follows by itself, seconds behind:
        a row may be gone from the store.
        """
        revision = self.store.revision
        if revision != self._seen or not self.folder.exists():
            if not self._seen or not self.folder.exists() or self._state().revision == revision:
                self.refresh()
            else:
                self._follow()
        try:
            return self._opened().search(question, n, only)
        except (ValueError, OSError):
            # Somebody deleted or spoilt its files.
            self._forget()
            self.refresh()
            return self._opened().search(question, n, only)

    def refresh(self, on_progress: Callable[[int, int], None] = lambda done, of: None) -> None:
        """Bring the index in step with the store; hears how many documents of how many were taken in.

        RagError if the store cannot be read or the folder not be written to.
        """
        with self._refreshing:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                with FileLock(self.folder.with_name(f".{self.folder.name}.lock")):
                    self._refresh(on_progress)
            except (OSError, ValueError) as error:
                raise RagError(
                    msg("the lexical index in {path} cannot be used ({reason})", path=self.folder, reason=error),
                    msg("free some disk space or remove it: it is made anew"),
                ) from None

    def remove(self) -> None:
        """Delete the index with the words in it: it is made anew when it is next asked."""
        if self.folder.exists():
            with self._refreshing, FileLock(self.folder.with_name(f".{self.folder.name}.lock")):
                self._forget()

    def _forget(self) -> None:
        self._index, self._seen = None, ""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.folder)

    def _opened(self) -> Index:
        if self._index is None:
            self._index = Index(self.folder)
        return self._index

    def _follow(self) -> None:
        """Bring the index in step in the background, if that is not under way and was not a moment ago."""
        busy = self._background is not None and self._background.is_alive()
        if not busy and time.monotonic() >= self._next_look:
            self._background = threading.Thread(target=self._in_background, name="lexical-index", daemon=True)
            self._background.start()

    def _in_background(self) -> None:
        try:
            self.refresh()
        except RagError:
            log.debug("the lexical index could not follow")
            # The next question tries again, and tells.
            self._seen = ""
        self._next_look = time.monotonic() + _PAUSE

    def _refresh(self, on_progress: Callable[[int, int], None]) -> None:
        revision, state = self.store.revision, self._state()
        if state.format != FORMAT or state == _NOTHING:
            # Also if it was deleted while it was open here.
            self._forget()
            state = _NOTHING
        try:
            index = self._opened()
        except ValueError:
            self._forget()
            index, state = self._opened(), _NOTHING
        index.reload()
        if state.revision != revision:
            state = self._take_in(index, state, on_progress)._replace(revision=revision)
            temporary = self.folder / f"{_STATE}.new"
            temporary.write_bytes(orjson.dumps(state._asdict()))
            temporary.replace(self.folder / _STATE)
        self._seen = revision

    def _take_in(self, index: Index, state: State, on_progress: Callable[[int, int], None]) -> State:
        """Take in what was stored since, take out what is gone, and return the state then."""
        changes = self.store.changes(max(state.last - _SKEW, 0))
        new = [(name, version) for name, version in changes.versions.items() if not index.has(name, version)]
        before = {name for name, _ in new if index.has(name)}
        gone: list[str] = []
        # Some are gone, or the store is one of an earlier day, restored.
        if state.n_documents + len(new) - len(before) != changes.n_documents or changes.last < state.last:
            everything = self.store.changes().versions
            gone = [name for name in index.documents() if name not in everything]
            new = [(name, version) for name, version in everything.items() if not index.has(name, version)]
        done = 0

        def rows(part: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str, Chunk]]:
            nonlocal done
            for start in range(0, len(part), _READ):
                versions = dict(part[start : start + _READ])
                for row, chunk in self.store.rows_of(list(versions)).items():
                    yield row, versions[chunk.document], chunk
                done += len(versions)
                on_progress(done, len(new))

        for start in range(0, len(new), _WRITTEN):
            part = new[start : start + _WRITTEN]
            index.update([*gone, *(name for name, _ in part)], rows(part))
            gone = []
        if gone:
            index.update(gone, [])
        return State("", changes.last, changes.n_documents)

    def _state(self) -> State:
        try:
            return State(**orjson.loads((self.folder / _STATE).read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return _NOTHING


def place_of(folder: Path, place: str) -> Path:
    """Return the folder of the indexes of all collections in a place, as `Store.place` names it."""
    return folder / hashlib.sha256(place.encode()).hexdigest()[:12]


def remove_indexes(folder: Path, place: str) -> None:
    """Delete the indexes of all collections in a place."""
    with suppress(FileNotFoundError):
        shutil.rmtree(place_of(folder, place))


def bring_in_step(store: Store, settings: Settings, on_progress: Callable[[int, int], None] = lambda done, of: None) -> None:
    """Bring the lexical index of a store in step, if there is to be one; for who has changed the store, and can wait."""
    if settings.lexical:
        LexicalIndex(store, settings.lexical_path).refresh(on_progress)
