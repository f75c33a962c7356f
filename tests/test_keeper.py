"""The keeper of an embedded Chroma, as a process of its own: who asks it, what it survives, and when it ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_app.errors import RagError
from rag_app.store import chroma_files, kept
from rag_app.store.kept import KeptStore
from rag_app.store.stored import Version, Written
from tests.helpers import ROOT
from tests.test_store import RECIPE, chunk, one, vectors

# Replaces ten documents of three chunks each, over and over, until its input ends.
WRITER = """
import sys, threading
from pathlib import Path
from rag_app.store.kept import KeptStore
from rag_app.store.stored import Version, Written
from tests.test_store import chunk, vectors

ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
with KeptStore(Path(sys.argv[1]), "shared") as store:
    n = 0
    while not ended.is_set():
        n += 1
        for d in range(0, 10, 5):
            store.put([
                Written(f"d{i}", Version("/r", f"{n}", 3, n), [chunk(f"d{i}", 3 * n + k) for k in range(3)],
                        vectors(i, i + 0.2, i + 0.4))
                for i in range(d, d + 5)
            ])
        print(n, flush=True)
"""


@pytest.fixture(autouse=True)
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(kept, "START", kept.start)
    monkeypatch.setattr(kept, "IDLE", 0.5)
    yield
    for process in kept._STARTED:
        process.kill()
        process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "chroma"


@pytest.fixture
def store(folder: Path) -> Iterator[KeptStore]:
    with KeptStore(folder, "shared", create=True) as store:
        store.create(RECIPE, 2).put([one("own", 0)])
        yield store


def keeper_of(folder: Path) -> int:
    """Return the process that serves a folder."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"rag_app.store.keeper" in command and os.fsencode(folder) in command:
            return int(entry.parent.name)
    return 0


def until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "did not come to be"
        time.sleep(0.05)


def test_questions_beside_a_writer_never_fail_and_see_whole_documents(store: KeptStore, folder: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(folder)]
    asked = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
        assert writer.stdin and writer.stdout
        try:
            while int(writer.stdout.readline()) < 3:
                pass
            deadline = time.monotonic() + 6
            while time.monotonic() < deadline:
                for only in ((), ("d3", "d4")):
                    found = store.nearest(vectors(3)[0], 60, only)
                    positions: dict[str, set[int]] = {}
                    for c in found:
                        positions.setdefault(c.document, set()).add(c.position)
                    wanted = set(only) or {"own", *(f"d{i}" for i in range(10))}
                    assert set(positions) == wanted
                    for name in wanted - {"own"}:
                        first = min(positions[name])
                        assert positions[name] == {first, first + 1, first + 2} and first % 3 == 0
                    asked += 1
        finally:
            writer.stdin.close()
    assert asked > 20


def test_a_keeper_that_is_killed_is_replaced_and_nothing_is_lost(store: KeptStore, folder: Path) -> None:
    first = keeper_of(folder)
    os.kill(first, signal.SIGKILL)
    assert [c.id for c in store.nearest(vectors(0)[0], 3)] == ["own 0"]
    os.kill(keeper_of(folder), signal.SIGKILL)
    assert store.put([one("more", 5)]) == 0 and store.count() == 2
    assert keeper_of(folder) not in (0, first)


# A keeper that ends as Chroma's native code does over some damaged indexes, whatever is asked.
ABORTS = """
import os, sys
from rag_app.store import keeper
keeper.ChromaStore.count = lambda store: os.abort()
keeper.serve(keeper.Path(sys.argv[1]), 0.5)
"""


def test_a_native_abort_ends_the_keeper_and_not_who_asks(
    store: KeptStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(folder: Path) -> Any:
        with (folder / kept.LOG).open("wb") as log:
            process = subprocess.Popen([sys.executable, "-X", "faulthandler", "-c", ABORTS, str(folder)], cwd=ROOT, stderr=log)
        kept._STARTED.append(process)
        return process

    monkeypatch.setattr(kept, "START", start)
    os.kill(keeper_of(folder), signal.SIGKILL)
    with pytest.raises(RagError, match=r"ended while it was asked .*: run `rag-app repair`"):
        store.count()


def test_a_keeper_ends_when_nobody_is_connected(store: KeptStore, folder: Path) -> None:
    assert store.count() == 1 and keeper_of(folder)
    time.sleep(1.5)
    assert keeper_of(folder)
    store.close()
    until(lambda: not keeper_of(folder))
    assert not (folder / kept.SOCKET).exists()


def test_a_folder_that_is_deleted_and_made_again_is_another(store: KeptStore, folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)
    with KeptStore(folder, "shared", create=True) as again:
        again.create(RECIPE, 2).put([one("new", 0)])
    assert list(store.documents()) == ["new"]


def test_only_its_user_may_use_it(store: KeptStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (folder / kept.SOCKET).stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(RagError, match="in use by another user of this machine: run as that user"):
        kept.connect(folder)


def test_the_path_of_a_folder_may_be_long(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    with KeptStore(folder, "shared", create=True) as store:
        store.create(RECIPE, 2).put([one("own", 0)])
        assert store.count() == 1
    with KeptStore(folder, "shared") as store:
        assert store.count() == 1


def test_many_who_start_at_once_share_one_keeper(folder: Path) -> None:
    counts: list[int] = []

    def ask() -> None:
        with KeptStore(folder, "shared", create=True) as store:
            counts.append(store.count())

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [0] * 6


def test_a_folder_that_cannot_be_written_to_is_named(store: KeptStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RagError, match="is read-only, and Chroma writes there also to read: make it writable"):
        KeptStore(folder, "shared")


def test_a_document_larger_than_one_write_is_seen_whole_or_not_at_all(store: KeptStore) -> None:
    n = 2500
    cut = [chunk("large", i) for i in range(n)]
    seen: list[int] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            seen.append(len(store.nearest(vectors(0)[0], 3000, ["large"])) if "large" in store.documents() else 0)

    asking = threading.Thread(target=ask)
    asking.start()
    store.put([Written("large", Version("/r", "h", n, 1.0), cut, vectors(*(i / n for i in range(n))))])
    ended.set()
    asking.join()
    assert set(seen) <= {0, n} and len(store.nearest(vectors(0)[0], 3000, ["large"])) == n


def test_a_keeper_that_is_stopped_while_others_write_cuts_nothing_off(store: KeptStore, folder: Path) -> None:
    ended = threading.Event()
    errors: list[Exception] = []

    def write(n: int) -> None:
        try:
            with KeptStore(folder, f"other{n}", create=True) as own:
                own.create(RECIPE, 2)
                version = 0
                while not ended.is_set():
                    version += 1
                    cut = [chunk(f"d{n}", 200 * version + i) for i in range(200)]
                    own.put([Written(f"d{n}", Version("/r", "h", 200, version), cut, vectors(*(i / 7 for i in range(200))))])
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for writer in writers:
        writer.start()
    for _ in range(5):
        time.sleep(1.0)
        with kept.alone(folder, "looking"):
            before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.bin")}
            assert [one.name for one in chroma_files.indexes(folder) if chroma_files.torn(folder, one)] == []
            time.sleep(0.3)
            assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.bin")}
    ended.set()
    for writer in writers:
        writer.join()
    assert errors == []
    for n in range(3):
        with KeptStore(folder, f"other{n}") as own:
            assert own.count() == 200 and own.documents()[f"d{n}"].whole


def test_who_asks_while_a_folder_is_repaired_is_told(store: KeptStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = pytest.raises(RagError, match="it is being repaired: try again when that has ended")
    with kept.alone(folder, "it is being repaired: try again when that has ended"), monkeypatch.context() as patched, told:
        patched.setattr(kept, "_START", 2.0)
        store.count()
    # One that was killed says nothing any more.
    (folder / kept.BUSY).write_text("it is being repaired")
    assert store.count() == 1 and not (folder / kept.BUSY).exists()
