"""A folder of Chroma that another process writes to: what it wrote is seen, and what was open before is closed."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rag_app.store.chroma import ChromaStore
from rag_app.store.stored import Version
from tests.helpers import ROOT
from tests.test_store import RECIPE, chunk, vectors

# Stores one more document for each line that it reads, and says so.
WRITER = """
import sys
from pathlib import Path
from rag_app.store.chroma import ChromaStore
from rag_app.store.stored import Version
from tests.test_store import chunk, vectors

with ChromaStore(Path(sys.argv[1]), "", "shared") as store:
    for n, _ in enumerate(sys.stdin, 1):
        store.put([(chunk(f"foreign {n}"), Version("/r", "h", 1, 1.0))], vectors(n))
        store.touch()
        print("stored", flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ChromaStore]:
    with ChromaStore(tmp_path, "", "shared", create=True) as store:
        store.create(RECIPE, 2).put([(chunk("own"), Version("/r", "h", 1, 1.0))], vectors(0))
        store.touch()
        yield store


@pytest.fixture
def foreign_write(store: ChromaStore, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Return a function that has another process store one document."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT) as writer:
        assert writer.stdin and writer.stdout

        def write() -> None:
            assert writer.stdin and writer.stdout
            writer.stdin.write("\n")
            assert writer.stdout.readline() == "stored\n"

        yield write
        writer.stdin.close()


def open_files(folder: Path) -> int:
    """Return how many files of a folder this process has open."""
    found = 0
    for number in Path("/proc/self/fd").iterdir():
        # The one that lists them is gone by now.
        with suppress(OSError):
            found += number.readlink().is_relative_to(folder)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="counts the files in /proc")
def test_open_files_do_not_grow_with_the_writes_of_another_process(
    store: ChromaStore, foreign_write: Callable[[], None], tmp_path: Path
) -> None:
    assert len(store.nearest(vectors(0)[0], 20)) == 1
    counts = [open_files(tmp_path)]
    for n in range(1, 9):
        foreign_write()
        assert len(store.nearest(vectors(0)[0], 20)) == 1 + n
        counts.append(open_files(tmp_path))
    # What is closed is so a moment later: at most one opening more than the current one.
    assert max(counts) <= 2 * counts[0], counts
    store.close()
    deadline = threading.Event()
    for _ in range(50):
        if not open_files(tmp_path):
            break
        deadline.wait(0.1)
    assert open_files(tmp_path) == 0


def test_questions_in_other_threads_go_on_while_the_folder_is_opened_again(
    store: ChromaStore, foreign_write: Callable[[], None], tmp_path: Path
) -> None:
    ended = threading.Event()
    errors: list[Exception] = []
    asked = [0, 0, 0]

    def ask(which: int) -> None:
        try:
            with ChromaStore(tmp_path, "", "shared") as own:
                while not ended.is_set():
                    asked_in = own if which else store
                    assert 1 <= len(asked_in.nearest(vectors(0)[0], 20)) <= 9 and "own" in asked_in.documents()
                    asked[which] += 1
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(which,)) for which in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        foreign_write()
        store.nearest(vectors(0)[0], 20)
    ended.set()
    for thread in threads:
        thread.join()
    assert errors == [] and min(asked) > 0
    assert store.count() == 9
