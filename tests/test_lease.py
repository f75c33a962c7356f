"""The lock of a collection on a server, seen from several machines."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rag_app.errors import RagError
from rag_app.store import chroma_client
from rag_app.store import lease as module
from rag_app.store.chroma_client import Database
from rag_app.store.lease import lease
from rag_app.store.stored import Where


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


def test_what_was_taken_over_is_not_let_go_by_who_lost_it(database: Database) -> None:
    with lease(database, "lost"):
        # As another machine does that took it for gone.
        lost = database.client.get_collection("lost.lock-whole", embedding_function=None)
        lost.modify(name="lost.lock-aside")
        database.delete_one("lost.lock-aside")
        hold(database, "lost")
    assert database.all_names("lost.lock") == ["lost.lock-whole"]


def test_a_collection_that_several_make_at_once_is_one(chroma_server: str, tmp_path: Path) -> None:
    at_once = threading.Barrier(6)
    errors: list[Exception] = []

    def make(n: int) -> None:
        try:
            # A database of its own each, as another machine has.
            with closing(Database(Where(tmp_path, chroma_server, tenant="default_tenant"))) as own:
                own._stores = 1
                at_once.wait()
                own.create("at-once", {"dimension": 2}, None)
                opened = own.collection("at-once")
                assert opened
                opened.documents.upsert(ids=[f"document:{n}"], embeddings=[[1.0, 2.0]], metadatas=[{"n": n}])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=make, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with closing(Database.shared(Where(tmp_path, chroma_server))) as database:
        opened = database.collection("at-once")
        assert opened and opened.documents.count() == 6
        assert len(database.all_names("at-once")) == 2


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chroma_client, "_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with closing(Database.shared(Where(tmp_path, url))) as database, pytest.raises(RagError, match="check RAG_CHROMA_URL"):
            database.names()


def test_a_holder_whose_clock_is_wrong_is_seen_to_renew(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT", 1.0)
    with lease(database, "clock"):
        # As another machine sees it.
        monkeypatch.setattr(socket, "gethostname", lambda: "another")
        monkeypatch.setattr(time, "time_ns", lambda: 10**18)
        with pytest.raises(RagError, match="clock is being changed by"), lease(database, "clock"):
            pass
        monkeypatch.undo()
