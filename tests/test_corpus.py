"""The sample corpus and its labelled questions: complete, consistent, and built by the script that is kept."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.chunk import chunks
from ingest.files import SIDECAR
from ingest.readers.load import READERS, kind_of, read
from tests.helpers import ROOT

DATA = ROOT / "data"


def rows(name: str) -> list[dict[str, str | int | None]]:
    return [json.loads(line) for line in (DATA / "eval" / name).read_text("utf-8").split("\n") if line]


def squeeze(text: str) -> str:
    return " ".join(text.split())


def test_the_corpus_has_about_sixty_documents_of_every_kind_that_is_read() -> None:
    files = [path for path in (DATA / "corpus").rglob("*") if path.is_file() and path.name != SIDECAR]
    texts = [block.text for path in files for block in read(path, path.read_bytes()).blocks]
    assert 55 <= len(files) <= 70
    assert {kind_of(path, path.read_bytes()) for path in files} == {"markdown", "html", "pdf", "docx"} <= set(READERS)
    assert 24_000 <= len(" ".join(texts).split()) <= 33_000


def test_questions_are_unique_and_some_have_no_answer() -> None:
    # Without those that were added on the page, whose answer nobody wrote down.
    queries = [row for row in rows("queries.jsonl") if "answer" in row]
    judged = {row["query"] for row in rows("qrels.jsonl")} & {row["_id"] for row in queries}
    assert len(queries) >= 60 and len({query["_id"] for query in queries}) == len(queries)
    assert {query["_id"] for query in queries if query["answer"] is not None} == judged
    assert sum(query["answer"] is None for query in queries) >= 10


@pytest.mark.parametrize("document", sorted({str(row["document"]) for row in rows("qrels.jsonl")}))
def test_every_judged_quote_stands_in_one_chunk_of_its_document(document: str) -> None:
    path = DATA / "corpus" / document
    texts = [squeeze(chunk.text) for chunk in chunks(document, read(path, path.read_bytes()))]
    for row in rows("qrels.jsonl"):
        if row["document"] == document:
            assert row["grade"] in (1, 2)
            assert any(squeeze(str(row["quote"])) in text for text in texts), row["quote"]


def test_the_script_builds_the_binary_documents_that_are_kept(tmp_path: Path) -> None:
    copy = tmp_path / "data"
    copy.mkdir()
    (copy / "build_corpus.py").write_bytes((DATA / "build_corpus.py").read_bytes())
    (copy / "source").symlink_to(DATA / "source")
    subprocess.run([sys.executable, copy / "build_corpus.py"], check=True, capture_output=True)
    built = {path.relative_to(copy): path for path in (copy / "corpus").rglob("*.*")}
    assert len(built) == 16
    for name, path in built.items():
        # By what is read of them: a newer fpdf2 or python-docx may write other bytes.
        assert read(path, path.read_bytes()) == read(DATA / name, (DATA / name).read_bytes())
