"""The lexical index: terms, BM25, and an index on disk that follows the store whatever happens to either."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_app.errors import RagError
from rag_app.lexical import kept
from rag_app.lexical.kept import LexicalIndex
from rag_app.lexical.terms import folded, singular, terms
from rag_app.settings import load_settings
from rag_app.store.opening import open_store
from rag_app.store.protocol import Store
from rag_app.store.stored import Version, Written
from rag_app.types import Chunk


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("How often should Callistos be recalibrated?", ["how", "often", "should", "callisto", "be", "recalibrated"]),
        ("policies, boxes, glasses; bus, class, gas", ["policy", "boxe", "glasse", "bus", "class", "gas"]),
        ("CAFÉ Straße naïve ﬁne ＡＢＣ", ["cafe", "strasse", "naive", "fine", "abc"]),
        ("snake_case C5-RMA_2025 3.5", ["snake", "case", "c5", "rma", "2025", "3", "5"]),
        ("多久校准C5传感器？", ["多久", "久校", "校准", "c5", "传感", "感器"]),
        ("水", ["水"]),
        ("カタカナ・ひらがな", ["カタ", "タカ", "カナ", "ひら", "らが", "がな"]),
        ("문서를 찾는다", ["문서", "서를", "찾는", "는다"]),
        ("ไทย", ["ไท", "ทย"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("… – !", []),
        ("", []),
    ],
)
def test_terms_of_a_text(text: str, wanted: list[str]) -> None:
    assert terms(text) == wanted


@pytest.mark.parametrize(
    ("word", "stem"),
    [
        ("ies", "ies"),
        ("ties", "ty"),
        ("eies", "eie"),
        ("trees", "tree"),
        ("toes", "toe"),
        ("aes", "aes"),
        ("us", "us"),
        ("a" * 99, "a" * 64),
    ],
)
def test_the_s_of_a_plural_is_taken_off(word: str, stem: str) -> None:
    assert singular(word) == stem


@given(st.text(max_size=60))
def test_terms_are_the_same_in_capitals_and_hold_no_space(text: str) -> None:
    assert folded(folded(text)) == folded(text)
    assert all(term and not term.isspace() and " " not in term for term in terms(text))


def chunk(document: str, position: int, text: str, language: str = "en") -> Chunk:
    return Chunk(
        id=f"{document} {position} {text}",
        document=document,
        title=document.rpartition("/")[2],
        headings=(),
        page=None,
        position=position,
        start=0,
        end=len(text),
        language=language,
        text=text,
    )


def written(document: str, *texts: str, language: str = "en") -> Written:
    chunks = [chunk(document, i, text, language) for i, text in enumerate(texts)]
    vectors = np.array([[1.0, 0.1 * i] for i in range(len(texts))], dtype=np.float32)
    return Written(document, Version("/r", " ".join(texts), len(texts), 1.0), chunks, vectors)


@pytest.fixture(params=["embedded", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path, keep: Any) -> Store:
    place: dict[str, Any] = {"chroma_path": tmp_path / "chroma", "collection": f"lexical-{os.urandom(4).hex()}"}
    if request.param == "server":
        place["chroma_url"] = request.getfixturevalue("chroma_server")
    opened: Store = keep(open_store(load_settings(**place), create=True))
    opened.create({"embedding_model": "emb", "passage_prefix": ""}, 2)
    opened.put([written("a", "the red fox jumps", "a dog sleeps"), written("b/c", "der rote Fuchs springt", language="de")])
    return opened


@pytest.fixture
def index(store: Store, tmp_path: Path, keep: Any) -> LexicalIndex:
    found: LexicalIndex = keep(LexicalIndex(store, tmp_path / "lexical"))
    return found


def found(store: Store, index: LexicalIndex, question: str, only: Sequence[str] = ()) -> list[str]:
    chunks = store.chunks([row for row, _ in index.search(question, 9, only)])
    return sorted(chunk.text for chunk in chunks.values())


def other(store: Store, tmp_path: Path) -> LexicalIndex:
    """What another process would open."""
    return LexicalIndex(store, tmp_path / "lexical")


def test_chunks_are_found_by_their_words_and_their_headings(store: Store, index: LexicalIndex) -> None:
    ((row, score), *_) = index.search("red foxes", 9)
    assert store.chunks([row])[row].text == "the red fox jumps" and score > 0
    assert found(store, index, "Füchse fuchs") == ["der rote Fuchs springt"]
    # The title is the document's name.
    assert found(store, index, "c") == ["der rote Fuchs springt"]
    assert found(store, index, "elephant") == found(store, index, "…") == []


def test_a_filter_means_documents_folders_and_languages(store: Store, index: LexicalIndex) -> None:
    store.put([written("b/d/e", "a fox again", language="nl"), written("bc", "a fox elsewhere")])
    assert found(store, index, "fox fuchs", ["b/"]) == ["a fox again", "der rote Fuchs springt"]
    assert found(store, index, "fox fuchs", ["b/d/"]) == ["a fox again"]
    assert found(store, index, "fox fuchs", ["a", "b/d/"]) == ["a fox again", "the red fox jumps"]
    assert found(store, index, "fox fuchs", ["b/", "language:de"]) == ["der rote Fuchs springt"]
    assert found(store, index, "fox", ["gone"]) == []


def test_the_index_follows_the_store(store: Store, index: LexicalIndex, tmp_path: Path) -> None:
    assert found(store, index, "fox") == ["the red fox jumps"]
    store.put([written("a", "a green fox"), written("new", "another fox")])
    index.refresh()
    assert found(store, index, "fox dog red") == ["a green fox", "another fox"]
    # Read as rows too: of what was replaced none is left in the index.
    assert len(index.search("fox dog red", 9)) == 2
    store.put([written("more", "one more fox")], gone=["new"])
    index.refresh()
    assert found(store, index, "fox") == ["a green fox", "one more fox"] and len(index.search("another", 9)) == 0
    store.forget(["a", "more"])
    index.refresh()
    assert index.search("fox", 9) == []
    assert found(store, other(store, tmp_path), "fuchs") == ["der rote Fuchs springt"]


def test_only_what_changed_is_read(store: Store, index: LexicalIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    index.refresh()
    read: list[list[str]] = []
    rows_of = type(store).rows_of
    monkeypatch.setattr(type(store), "rows_of", lambda self, names: (read.append(list(names)), rows_of(self, names))[1])
    index.refresh()
    assert read == []
    store.put([written("new", "a fox")])
    told: list[tuple[int, int]] = []
    index.refresh(lambda done, of: told.append((done, of)))
    assert read == [["new"]] and told == [(1, 1)]


def test_an_index_that_was_deleted_or_spoilt_is_made_anew(store: Store, index: LexicalIndex, tmp_path: Path) -> None:
    index.refresh()
    shutil.rmtree(index.folder)
    assert found(store, index, "fox") == ["the red fox jumps"]
    for spoilt in ("meta.json", "state.json"):
        (index.folder / spoilt).write_bytes(b"\0\0")
        assert found(store, other(store, tmp_path), "fox") == ["the red fox jumps"]
    for path in index.folder.iterdir():
        if path.suffix not in (".json", ".lock", ""):
            path.write_bytes(b"")
    assert found(store, other(store, tmp_path), "fox") == ["the red fox jumps"]


def test_an_index_of_another_format_or_another_collection_is_made_anew(
    store: Store, index: LexicalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.refresh()
    monkeypatch.setattr("rag_app.lexical.index.terms", lambda text: ["same"])
    assert index.search("elephant", 9) == []
    monkeypatch.setattr(kept, "FORMAT", kept.FORMAT + 1)
    assert len(other(store, tmp_path).search("elephant", 9)) == 3
    monkeypatch.undo()
    store.drop()
    store.create({"embedding_model": "emb", "passage_prefix": ""}, 2).put([written("x", "a new fox")])
    assert found(store, other(store, tmp_path), "fox red") == ["a new fox"]


def test_a_store_that_was_restored_to_an_earlier_day_is_indexed_as_it_is_now(
    store: Store, index: LexicalIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 2_000_000_000_000_000_000)
    store.put([written("a", "a green fox")])
    index.refresh()
    state = (index.folder / "state.json").read_text()
    monkeypatch.undo()
    store.put([written("a", "the red fox jumps")])
    # As if the row of the later change had never been: its time is the highest that the index knows.
    (index.folder / "state.json").write_text(state)
    index.refresh()
    assert found(store, index, "fox green") == ["the red fox jumps"]


def test_a_question_does_not_wait_for_an_index_that_follows(
    store: Store, index: LexicalIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(store, index, "fox") == ["the red fox jumps"]
    go_on, refresh = threading.Event(), LexicalIndex._refresh
    monkeypatch.setattr(LexicalIndex, "_refresh", lambda *given: (go_on.wait(60), refresh(*given)))
    store.put([written("new", "another fox")])
    assert found(store, index, "fox") == ["the red fox jumps"]
    go_on.set()
    index.close()
    assert found(store, index, "fox") == ["another fox", "the red fox jumps"]


def test_what_another_process_took_in_is_seen_at_once(store: Store, index: LexicalIndex, tmp_path: Path) -> None:
    assert found(store, index, "fox") == ["the red fox jumps"]
    store.put([written("new", "another fox")])
    other(store, tmp_path).refresh()
    assert found(store, index, "fox") == ["another fox", "the red fox jumps"]


def test_many_at_once_make_one_index(store: Store, tmp_path: Path) -> None:
    some = [other(store, tmp_path) for _ in range(4)]
    results: list[int] = []
    threads = [threading.Thread(target=lambda i=i: results.append(len(i.search("fox dog fuchs", 9)))) for i in some]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [3, 3, 3, 3]


def test_a_folder_that_cannot_be_written_is_one_error(store: Store, tmp_path: Path) -> None:
    (tmp_path / "lexical").write_text("a file")
    with pytest.raises(RagError, match=r"lexical index in .* cannot be used"):
        LexicalIndex(store, tmp_path / "lexical").refresh()


def test_what_is_removed_leaves_no_word_behind(store: Store, index: LexicalIndex) -> None:
    store.put([written("secret", "xylophonist")])
    index.refresh()
    assert any(b"xylophonist" in path.read_bytes() for path in index.folder.iterdir())
    store.forget(["secret"])
    index.remove()
    assert not index.folder.exists()
    index.refresh()
    assert not any(b"xylophonist" in path.read_bytes() for path in index.folder.iterdir())


KILLED = """
import sys
from pathlib import Path
from rag_app.lexical.kept import LexicalIndex
from rag_app.store.kept import KeptStore
with KeptStore(Path(sys.argv[1]), sys.argv[2]) as store:
    print("ready", flush=True)
    LexicalIndex(store, Path(sys.argv[3])).refresh()
"""


def test_an_update_that_is_killed_is_completed_by_the_next(tmp_path: Path, keep: Any) -> None:
    store = keep(open_store(load_settings(chroma_path=tmp_path / "chroma", collection="killed"), create=True))
    store.create({"embedding_model": "emb", "passage_prefix": ""}, 2)
    store.put([written(f"d{i}", *(f"word{i} part{j} fox" for j in range(5))) for i in range(200)])
    for pause in (0.0, 0.02, 0.05, 0.1, 0.2):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "chroma"), "killed", str(tmp_path / "lexical")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout and process.stdout.readline() == "ready\n"
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
    index = keep(LexicalIndex(store, tmp_path / "lexical"))
    assert len(index.search("fox", 2000)) == 1000
    assert sorted(index.search("word7", 9)) == sorted(row for row in index.search("word7 part", 2000)[:5])
