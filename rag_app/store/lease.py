"""The lock of a collection on a server: a collection by its side, which its holder renews, so that all machines see it.

A file of one machine says nothing to another. Chroma makes a name once: who makes it holds the lock. It is taken over from a
holder that is gone: one of this machine whose process has ended, or one that has not renewed it for a while.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rag_app.errors import RagError
from rag_app.store.chroma_client import Database
from rag_app.store.chroma_errors import MissingError
from rag_app.store.locks import changed_by, clash, part_name
from rag_app.words import msg

# Seconds between renewals, and after how many without one a holder is looked at twice.
BEAT = 10.0
_HELD: set[str] = set()
_LOST = 6.0


@contextmanager
def lease(database: Database, name: str, part: str = "") -> Iterator[None]:
    """Hold the lock of a collection, or of a part such as 3/8. RagError, which names the holder, if another has it."""
    own = part_name(part)
    prefix = f"{name[:90]}.lock-"
    held = f"{prefix}{own or 'whole'}"
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "started": time.strftime("%Y-%m-%d %H:%M:%S")}
    made = _made(database, held, mine)
    if made is None:
        _refuse_living(database, name, held)
        made = _made(database, held, mine)
        if made is None:
            raise changed_by(name, msg("another process"))
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(database, made, mine, ended), daemon=True)
    _HELD.add(held)
    try:
        for other in database.all_names(prefix):
            part_of_other = other.removeprefix(prefix)
            if other != held and clash(own, "" if part_of_other == "whole" else part_of_other):
                _refuse_living(database, name, other)
        renewing.start()
        yield
    finally:
        ended.set()
        _HELD.discard(held)
        _take_away(database, made, held)


def _made(database: Database, held: str, mine: dict[str, Any]) -> Any:
    """Return the lock's collection, if it could be made."""
    try:
        return database.call(
            lambda: database.client.create_collection(held, embedding_function=None, metadata={**mine, "beat": time.time_ns()})
        )
    except RagError:
        if database.there(held):
            return None
        raise


def _renew(database: Database, made: Any, mine: dict[str, Any], ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        # A server that is away for a moment is no reason to end the work.
        with suppress(RagError):
            database.call(lambda: made.modify(metadata={**mine, "beat": time.time_ns()}))


def _refuse_living(database: Database, name: str, held: str) -> None:
    """RagError if the holder of a lock lives; else the lock is taken away from it."""
    found = _read(database, held)
    if found is None:
        return
    told = dict(found.metadata or {})
    who = msg("process {pid} on {host}, started {started}", **{key: told.get(key, "?") for key in ("pid", "host", "started")})
    here = told.get("host") == socket.gethostname()
    if here and not _lives(told, held):
        # Known at once: a killed run is completed by the next without waiting.
        pass
    elif abs(time.time_ns() - int(told.get("beat", 0))) < _LOST * BEAT * 1e9:
        raise changed_by(name, who)
    else:
        # Clocks differ: whether it is renewed is seen by waiting.
        time.sleep(2 * BEAT)
        again = _read(database, held)
        if again is not None and (again.metadata or {}).get("beat") != told.get("beat"):
            raise changed_by(name, who)
    _take_away(database, found, held)


def _take_away(database: Database, lock: Any, held: str) -> None:
    """Delete a lock, and no other that has been made under its name since: under a name of its own first."""
    aside = f"{held}-{secrets.token_hex(4)}"
    with suppress(MissingError):
        database.call(lambda: lock.modify(name=aside))
        database.delete_one(aside)


def _lives(told: dict[str, Any], held: str) -> bool:
    """Whether a holder of this machine still has its process; one of this number may be that of a container before."""
    with suppress(OSError, TypeError, ValueError):
        pid = int(told["pid"])
        # Signal 0 asks whether there is such a process.
        os.kill(pid, 0)
        return pid != os.getpid() or held in _HELD
    return False


def _read(database: Database, held: str) -> Any:
    with suppress(MissingError):
        return database.call(lambda: database.client.get_collection(held, embedding_function=None))
    return None
