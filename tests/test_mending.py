"""A damaged store is named as what it is, and mended; a backup is made beside a writer; what is forgotten is gone.

Chroma's native code may end the process over damage: the keepers are processes of their own.
"""

import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingest import mending, sync
from rag_app.errors import RagError
from rag_app.settings import Settings, load_settings
from rag_app.store import chroma_files, kept
from rag_app.store.kept import KeptStore
from rag_app.store.stored import EmptyCollectionError, Version, Written
from tests.helpers import ingest_into, run
from tests.test_keeper import processes
from tests.test_store import RECIPE, chunk
from tests.wire import Wire

__all__ = ["processes"]

# More than Chroma keeps in its log alone: the first 3,000 are in files of the index.
N = 3400
PER_DOCUMENT = 20
VECTORS = np.random.default_rng(0).normal(size=(N, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 170 documents, closed; copied by each test."""
    folder = tmp_path_factory.mktemp("whole") / "chroma"
    with KeptStore(folder, "handbook", create=True) as store:
        store.create(RECIPE, 16)
        for start in range(0, N, 1000):
            documents = range(start // PER_DOCUMENT, min(start + 1000, N) // PER_DOCUMENT)
            store.put([document(n) for n in documents])
    with kept.alone(folder, "copying"):
        pass
    return folder


def document(n: int) -> Written:
    name = f"f{n % 3}/d{n}.md"
    rows = slice(n * PER_DOCUMENT, (n + 1) * PER_DOCUMENT)
    return Written(
        name, Version("/r", f"h{n}", PER_DOCUMENT, 1.0), [chunk(name, i) for i in range(PER_DOCUMENT)], VECTORS[rows]
    )


@pytest.fixture
def settings(whole: Path, tmp_path: Path, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Settings:
    shutil.copytree(whole, tmp_path / "chroma", ignore=shutil.ignore_patterns("keeper.*"))
    return load_settings(
        chroma_path=tmp_path / "chroma", base_url=wire.url, api_key="k", embedding_model="emb", collection="handbook"
    )


def answers(settings: Settings) -> list[list[str]]:
    with KeptStore(settings.chroma_path, settings.collection) as store:
        assert store.count() == N
        return [[c.id for c in store.nearest(VECTORS[i], 10)] for i in range(0, N, 200)]


@pytest.fixture(scope="module")
def expected(whole: Path) -> list[list[str]]:
    return answers(load_settings(chroma_path=whole, collection="handbook"))


def index_of(settings: Settings) -> Path:
    (index,) = [one for one in chroma_files.indexes(settings.chroma_path) if one.name == "handbook"]
    return settings.chroma_path / index.segment


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def zero(path: Path, share: float = 1.0) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(int(size * (1 - share) / 2))
        file.write(bytes(int(size * share)))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "vectors cut to 1000 bytes": lambda p: cut(p / "data_level0.bin", 1000),
    "vectors cut in half": lambda p: cut(p / "data_level0.bin", (p / "data_level0.bin").stat().st_size // 2),
    "vectors zeroed in the middle": lambda p: zero(p / "data_level0.bin", 0.2),
    "vectors zeroed": lambda p: zero(p / "data_level0.bin"),
    "vectors gone": lambda p: (p / "data_level0.bin").unlink(),
    "header cut": lambda p: cut(p / "header.bin", 10),
    "header cut in half": lambda p: cut(p / "header.bin", 50),
    "header empty": lambda p: cut(p / "header.bin", 0),
    "lengths zeroed": lambda p: zero(p / "length.bin"),
    "lengths empty": lambda p: cut(p / "length.bin", 0),
    "links cut in half": lambda p: cut(p / "link_lists.bin", (p / "link_lists.bin").stat().st_size // 2),
    "links zeroed": lambda p: zero(p / "link_lists.bin"),
    "ids cut in half": lambda p: cut(p / "index_metadata.pickle", (p / "index_metadata.pickle").stat().st_size // 2),
    "ids empty": lambda p: cut(p / "index_metadata.pickle", 0),
    "ids gone": lambda p: (p / "index_metadata.pickle").unlink(),
    "index gone": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_index_is_made_anew(
    damage: Callable[[Path], object], settings: Settings, expected: list[list[str]], wire: Wire
) -> None:
    # The scripted gateway's vectors depend on the text alone; here, on which chunk it is.
    wire.on("/embeddings", lambda body: _vectors(body["input"]))
    damage(index_of(settings))
    mended = mending.repair(settings)
    assert list(mended.indexes) == ["handbook"] and not mended.aside
    found = answers(settings)
    same = sum(a == b for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True))
    assert same >= 0.95 * sum(map(len, expected))
    assert mending.repair(settings).indexes == {}


def _vectors(texts: list[str]) -> Any:
    from tests.wire import Reply

    rows = []
    for text in texts:
        document, position = re.search(r"d(\d+)\.md (\d+)", text).groups()  # type: ignore[union-attr]
        rows.append(VECTORS[int(document) * PER_DOCUMENT + int(position)].tolist())
    return Reply({"data": [{"index": i, "embedding": row} for i, row in enumerate(rows)]})


@pytest.mark.parametrize(
    "damage", [name for name in DAMAGES if not name.startswith(("vectors zeroed", "links", "lengths zeroed"))]
)
def test_damage_that_sizes_tell_is_named_before_chroma_sees_it(damage: str, settings: Settings) -> None:
    DAMAGES[damage](index_of(settings))
    with KeptStore(settings.chroma_path, "handbook") as store:
        for asks in (store.count, lambda: store.nearest(VECTORS[0], 3), lambda: store.put([document(0)])):
            with pytest.raises(RagError, match=r"the vector index in .* is damaged \(.*\): run `rag-app repair`"):
                asks()
        # What does not need the index goes on, and so it can be made anew from the files.
        assert len(store.documents()) == N // PER_DOCUMENT
        sync.reset(store)
        assert store.documents() == {}


def test_what_is_written_to_a_reset_store_that_was_damaged_is_found(settings: Settings) -> None:
    cut(index_of(settings) / "header.bin", 10)
    with KeptStore(settings.chroma_path, "handbook") as store:
        sync.reset(store)
    with KeptStore(settings.chroma_path, "handbook", create=True) as store:
        store.create(RECIPE, 16).put([document(1)])
        assert store.nearest(VECTORS[20], 1)[0].id == "f1/d1.md 0"


SQLITE: dict[str, Callable[[Path], object]] = {
    "cut in half": lambda p: cut(p, p.stat().st_size // 2),
    "cut to 100 bytes": lambda p: cut(p, 100),
    "empty": lambda p: cut(p, 0),
    "gone": lambda p: p.unlink(),
    "head zeroed": lambda p: p.write_bytes(bytes(4096) + p.read_bytes()[4096:]),
}


@pytest.mark.parametrize("damage", SQLITE.values(), ids=SQLITE.keys())
def test_a_damaged_database_is_named_and_put_aside(damage: Callable[[Path], object], settings: Settings) -> None:
    damage(settings.chroma_path / "chroma.sqlite3")
    with pytest.raises(RagError, match=r"chroma.sqlite3 is (cut off|empty|missing|no database).*: run `rag-app repair`, or"):
        KeptStore(settings.chroma_path, "handbook").count()
    mended = mending.repair(settings)
    assert any(Path(mended.aside).iterdir())
    with pytest.raises(EmptyCollectionError):
        KeptStore(settings.chroma_path, "handbook")


def test_a_damaged_database_can_be_reset(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_CHROMA_PATH", str(settings.chroma_path))
    cut(settings.chroma_path / "chroma.sqlite3", 100)
    done = run("reset", "--yes", "--collection", "handbook")
    assert done.exit_code == 0 and "all collections in" in done.stdout
    with KeptStore(settings.chroma_path, "handbook", create=True) as store:
        assert store.count() == 0


def test_the_commands_say_what_they_did(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("CHROMA_PATH", settings.chroma_path), ("COLLECTION", "handbook"), ("BASE_URL", settings.base_url)):
        monkeypatch.setenv(f"RAG_{name}", str(value))
    assert "is a copy of" in run("backup", str(tmp_path / "copy")).stdout
    assert run("repair").stdout == "nothing is damaged\n"
    cut(index_of(settings) / "length.bin", 0)
    failed = run("documents", "--collection", "nothing-there")
    assert failed.exit_code == 1
    assert re.match(r"handbook: its index is made anew \(.*length.bin is cut off", run("repair").stdout.replace("\n", " "))
    assert "is what was in" in run("restore", str(tmp_path / "copy"), "--yes").stdout
    monkeypatch.setenv("RAG_CHROMA_URL", "http://127.0.0.1:9")
    for command in (["repair"], ["backup", "x"], ["restore", str(tmp_path / "copy"), "--yes"]):
        assert "is a server, which keeps its own files" in run(*command).stderr


def test_a_database_damaged_within_is_made_anew_from_its_files(corpus: Path, tmp_path: Path, wire: Wire) -> None:
    settings = load_settings(chroma_path=tmp_path / "c", base_url=wire.url, embedding_model="emb", collection="handbook")
    for i in range(60):
        (corpus / f"more{i}.txt").write_text(f"Text {i}. " + "word " * 200)
    ingest_into(settings, corpus)
    with KeptStore(settings.chroma_path, "handbook") as store:
        before = store.documents()
    with kept.alone(settings.chroma_path, "damaging"):
        zero(settings.chroma_path / "chroma.sqlite3", 0.3)
    (corpus / "notes.txt").unlink()
    mended = mending.repair(settings)
    assert mended.aside and list(mended.reports) == ["handbook"]
    with KeptStore(settings.chroma_path, "handbook") as store:
        after = store.documents()
    # As many as could still be read of; those are whole.
    assert len(after) > 5 and set(after) <= set(before) and all(d.whole for d in after.values())
    assert set(mended.lost) <= {"notes.txt"}


def test_a_repair_that_broke_off_is_gone_on_with(corpus: Path, tmp_path: Path, wire: Wire) -> None:
    settings = load_settings(chroma_path=tmp_path / "c", base_url=wire.url, embedding_model="emb", collection="handbook")
    ingest_into(settings, corpus)
    with KeptStore(settings.chroma_path, "handbook") as store:
        before = set(store.documents())
    with kept.alone(settings.chroma_path, "damaging"):
        known = chroma_files.remembered(settings.chroma_path)
        cut(settings.chroma_path / "chroma.sqlite3", (settings.chroma_path / "chroma.sqlite3").stat().st_size - 4096)
    assert set(known["handbook"]) == before
    with pytest.raises(RagError, match=r"127\.0\.0\.1:9"):
        mending.repair(settings.model_copy(update={"base_url": "http://127.0.0.1:9/v1"}))
    mended = mending.repair(settings)
    assert not mended.aside and list(mended.reports) == ["handbook"]
    with KeptStore(settings.chroma_path, "handbook") as store:
        assert set(store.documents()) == before
    assert mending.repair(settings).reports == {}


def test_nothing_is_restored_while_somebody_writes(settings: Settings, tmp_path: Path) -> None:
    mending.backup(settings, tmp_path / "copy")
    told = pytest.raises(RagError, match="handbook is being changed by process")
    with KeptStore(settings.chroma_path, "handbook") as store, store.lock(), told:
        mending.restore(settings, tmp_path / "copy", replace=True)
    mending.restore(settings, tmp_path / "copy", replace=True)


def test_a_backup_made_beside_a_writer_answers_the_same(settings: Settings, tmp_path: Path, expected: list[list[str]]) -> None:
    ended = threading.Event()
    errors: list[Exception] = []

    def write() -> None:
        try:
            with KeptStore(settings.chroma_path, "handbook") as store:
                while not ended.is_set():
                    store.put([document(n) for n in range(10)])
        except Exception as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for n in range(3):
            mending.backup(settings, tmp_path / f"copy{n}")
    finally:
        ended.set()
        writer.join()
    assert not errors
    for n in range(3):
        found = answers(settings.model_copy(update={"chroma_path": tmp_path / f"copy{n}"}))
        same = sum(a == b for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True))
        assert same >= 0.95 * sum(map(len, expected))
    with pytest.raises(RagError, match="is not empty: name a folder that is not there yet"):
        mending.backup(settings, tmp_path / "copy0")


def test_a_backup_is_restored_in_the_place_of_what_is_there(settings: Settings, tmp_path: Path) -> None:
    for name in ("chroma.restored", "copy.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    mending.backup(settings, tmp_path / "copy")
    with KeptStore(settings.chroma_path, "handbook") as open_meanwhile:
        sync.forget(open_meanwhile, ["f0/d0.md"])
        with pytest.raises(RagError, match=r"there is a Chroma in .* already: replace it with `rag-app restore --yes`"):
            mending.restore(settings, tmp_path / "copy")
        mending.restore(settings, tmp_path / "copy", replace=True)
        assert open_meanwhile.count() == N and open_meanwhile.document("f0/d0.md")
    # What stood beside it was another's.
    assert (tmp_path / "chroma.restored" / "mine").read_text() == "mine"
    with pytest.raises(RagError, match="there is no backup in"):
        mending.restore(settings, tmp_path / "nowhere")


def test_what_is_forgotten_is_out_of_the_files(corpus: Path, tmp_path: Path, wire: Wire) -> None:
    settings = load_settings(chroma_path=tmp_path / "c", base_url=wire.url, embedding_model="emb", collection="handbook")
    (corpus / "secret.md").write_text("# Secret\n\nThe word is XYZZYPLUGH, says TITLEQUX.\n")
    ingest_into(settings, corpus)

    def holds(word: bytes) -> bool:
        return any(word in path.read_bytes() for path in settings.chroma_path.rglob("*") if path.is_file())

    assert holds(b"XYZZYPLUGH") and holds(b"Dinner is paid")
    with KeptStore(settings.chroma_path, "handbook") as store:
        assert sync.forget(store, ["secret.md"]) == {"secret.md": 1}
        assert not holds(b"XYZZYPLUGH") and not holds(b"TITLEQUX") and holds(b"Dinner is paid")
        assert len(store.documents()) == 3 and store.count() == 5
        sync.reset(store)
        assert not holds(b"Dinner is paid")
