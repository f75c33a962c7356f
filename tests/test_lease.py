"""The lock of a collection on a server, seen from several machines."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rag_app.errors import RagError
from rag_app.store import lease as module
from rag_app.store.chroma_client import Database, Where
from rag_app.store.lease import lease


@pytest.fixture
def database(chroma_server: str, tmp_path: Path) -> Iterator[Database]:
    with closing(Database.shared(Where(tmp_path, chroma_server))) as database:
        yield database


def hold(database: Database, name: str, **told: object) -> None:
    """Make the lock of a holder that is not this process."""
    held = {"host": "elsewhere", "pid": 7, "started": "2026-01-01 00:00:00", "beat": time.time_ns(), **told}
    database.client.create_collection(f"{name}.lock-whole", embedding_function=None, metadata=held)


def test_a_holder_on_another_machine_is_named(database: Database) -> None:
    hold(database, "far")
    with pytest.raises(RagError, match="far is being changed by process 7 on elsewhere, started 2026"), lease(database, "far"):
        pass


def test_a_process_of_this_machine_that_was_killed_holds_nothing(database: Database) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    hold(database, "killed", host=socket.gethostname(), pid=ended.pid)
    with lease(database, "killed"):
        assert database.all_names("killed.lock") == ["killed.lock-whole"]
    assert database.all_names("killed.lock") == []


def test_a_holder_elsewhere_that_renews_nothing_any_more_is_taken_over(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT", 0.1)
    hold(database, "gone", beat=1)
    with lease(database, "gone"):
        pass


def test_a_holder_whose_clock_is_wrong_is_seen_to_renew(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT", 0.1)
    with lease(database, "clock"):
        # As another machine sees it.
        monkeypatch.setattr(socket, "gethostname", lambda: "another")
        monkeypatch.setattr(time, "time_ns", lambda: 10**18)
        with pytest.raises(RagError, match="clock is being changed by"), lease(database, "clock"):
            pass
        monkeypatch.undo()
