"""Ingest: readers, chunks, and a store that equals the corpus."""

import email.message
import io
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import docx
import fpdf
import numpy as np
import pytest

from ingest import sync as module
from ingest.chunk import Cutting, chunks, text_of
from ingest.files import Choice
from ingest.lock import collection_lock
from ingest.planning import look_through, plan
from ingest.readers.document import Block, Document
from ingest.readers.load import read
from ingest.reindex import reindex
from ingest.sync import Report, chosen, forget, reset
from ingest.worker import Limits, Workers
from rag_app.endpoints.opening import open_embeddings
from rag_app.errors import RagError
from rag_app.settings import Settings
from rag_app.store.chroma_client import Database
from rag_app.store.chroma_write import Change
from rag_app.store.kept import KeptStore
from rag_app.store.stored import Version, Where, Written
from rag_app.types import Chunk
from rag_app.words import msg
from tests.helpers import ROOT, environment, ingest, run
from tests.wire import Reply, Wire, embeddings


def blocks(name: str, content: bytes) -> list[tuple[str, str]]:
    return [(block.kind, block.text) for block in read(Path(name), content).blocks]


class TestReaders:
    def test_markdown_keeps_structure_and_leaves_front_matter_out(self) -> None:
        text = "---\ntitle: The title\ntags: [a]\n---\n# One\n\nSome *marked* text\non two lines.\n\n"
        text += "- first\n- second\n  - inner\n\n"
        text += "| Site | Spaces |\n|---|---|\n| Jena | 120 |\n| Lyon | |\n\n```\ncode  here\n```\n"
        document = read(Path("a.md"), text.encode())
        assert document.title == "The title"
        assert [(block.kind, block.text) for block in document.blocks] == [
            ("heading", "One"),
            ("paragraph", "Some marked text on two lines."),
            ("item", "- first"),
            ("item", "- second"),
            ("item", "- inner"),
            ("row", "Site: Jena | Spaces: 120"),
            ("row", "Site: Lyon"),
            ("code", "code  here"),
        ]

    def test_front_matter_with_an_impossible_date_is_no_failure(self) -> None:
        assert ("paragraph", "text") in blocks("a.md", b"---\ndate: 2025-02-30\n---\ntext")

    def test_a_rule_at_the_top_of_markdown_is_not_front_matter(self) -> None:
        assert blocks("a.md", b"---\nnot: [closed\n---\ntext") == [("heading", "not: [closed"), ("paragraph", "text")]

    def test_html_is_read_without_navigation_scripts_and_comments(self) -> None:
        html = "<title>T</title><nav>menu</nav><script>run()</script><h1>Head <b>line</b></h1>"
        html += "<div>loose<p>one\nor<br>two</p></div>"
        html += "<!-- no -->"
        document = read(Path("a.html"), html.encode())
        assert document.title == "Head line"
        assert [block.text for block in document.blocks] == ["Head line", "loose", "one or\ntwo"]

    def test_a_picture_with_a_caption_becomes_a_chunk_of_its_own(self) -> None:
        text = "Before.\n\n![A sky](https://a.example/sky.png) ![local](sky.png) ![](https://a.example/x.png)\n\nAfter."
        cut = chunks("a.md", read(Path("a.md"), text.encode()))
        assert [(c.text, c.image) for c in cut] == [("Before.", ""), ("A sky", "https://a.example/sky.png"), ("After.", "")]

    @pytest.mark.parametrize(
        ("html", "text"),
        [
            ("<article><p>one</p></article><article><p>two</p></article>", ["one", "two"]),
            ("<form><p>wrapped</p><button>Go</button></form>", ["wrapped"]),
            ("<nav>x</nav><main><p>main part</p></main><p>beside</p>", ["main part"]),
            ("<main><p>one</p></main><p>most of the page is here</p>", ["one", "most of the page is here"]),
        ],
        ids=["two articles", "a page in a form", "a main part", "a main part that is none"],
    )
    def test_no_text_of_a_page_is_lost(self, html: str, text: list[str]) -> None:
        assert [block.text for block in read(Path("a.html"), html.encode()).blocks] == text

    def test_an_empty_heading_does_not_hide_the_title(self) -> None:
        assert read(Path("a.html"), b"<title>Parking</title><h1><img src=logo.png></h1><p>text").title == "Parking"

    def test_word_headings_lists_and_tables_keep_their_kind(self) -> None:
        word = docx.Document()
        word.add_heading("Policy", 1)
        word.add_paragraph("A paragraph.")
        word.add_paragraph("an item", style="List Bullet")
        table = word.add_table(2, 2)
        for cell, text in zip([c for row in table.rows for c in row.cells], ["Site", "Spaces", "Jena", "120"], strict=True):
            cell.text = text
        out = io.BytesIO()
        word.save(out)
        assert blocks("a.docx", out.getvalue()) == [
            ("heading", "Policy"),
            ("paragraph", "A paragraph."),
            ("item", "- an item"),
            ("row", "Site: Jena | Spaces: 120"),
        ]

    def test_pdf_keeps_pages_headings_and_whole_paragraphs_and_drops_running_lines(self) -> None:
        pdf = fpdf.FPDF()
        for number in (1, 2):
            pdf.add_page()
            pdf.set_font("Helvetica", size=16)
            pdf.cell(text=f"Chapter {number}", new_x="LMARGIN", new_y="NEXT")
            pdf.set_font("Helvetica", size=11)
            pdf.multi_cell(0, text=f"Body of {number} goes on and on. " * 8, new_x="LMARGIN", new_y="NEXT")
            pdf.cell(text=f"Orrery, page {number} of 2", new_x="LMARGIN", new_y="NEXT")
        found = read(Path("a.pdf"), bytes(pdf.output())).blocks
        assert [(b.kind, b.page, b.text[:9]) for b in found] == [
            ("heading", 1, "Chapter 1"),
            ("paragraph", 1, "Body of 1"),
            ("heading", 2, "Chapter 2"),
            ("paragraph", 2, "Body of 2"),
        ]

    @pytest.mark.parametrize(
        ("encoding", "text"),
        [
            ("utf-8-sig", "Grüße"),
            ("utf-16", "Grüße an alle"),
            ("utf-16-be", "Grüße an alle"),
            ("cp1252", "Die Straße in München ist für Fußgänger gesperrt, natürlich."),
            ("gb18030", "员工出差的住宿标准由财务部门规定，超出部分自理。" * 3),
        ],
    )
    def test_encodings_are_told(self, encoding: str, text: str) -> None:
        assert blocks("a.txt", text.encode(encoding)) == [("paragraph", text)]


class TestChunks:
    def document(self, *found: Block) -> Document:
        return Document("Title", found)

    def test_blocks_are_packed_under_their_headings_up_to_the_size(self) -> None:
        cut = chunks(
            "a.md",
            self.document(
                Block("heading", "Title", 1),
                Block("paragraph", "intro"),
                Block("heading", "A", 2),
                Block("paragraph", "x" * 60),
                Block("item", "- " + "y" * 30),
                Block("paragraph", "z" * 30),
                Block("heading", "B", 3),
                Block("paragraph", "inner"),
            ),
            cutting=Cutting(100, 0),
        )
        assert [(c.headings, c.text) for c in cut] == [
            ((), "intro"),
            (("A",), "x" * 60 + "\n- " + "y" * 30),
            (("A",), "z" * 30),
            (("A", "B"), "inner"),
        ]
        assert [c.position for c in cut] == [0, 1, 2, 3]
        assert cut[3].text_in_context == "Title › A › B\ninner"

    @pytest.mark.parametrize(
        ("text", "joint"),
        [
            ("One sentence ends here. Another follows it at once. " * 20, " "),
            ("员工出差的住宿标准由财务部门规定。超出部分由本人承担！发票要在三十天内提交吗？" * 20, ""),
        ],
        ids=["English", "Chinese"],
    )
    def test_a_long_block_is_cut_at_sentence_ends_and_nothing_is_lost(self, text: str, joint: str) -> None:
        cut = chunks("a.md", self.document(Block("paragraph", text)), cutting=Cutting(200, 0))
        assert all(len(c.text) <= 200 and c.text[-1] in ".。！？" for c in cut)
        assert joint.join(c.text for c in cut) == text.strip()

    def test_a_word_longer_than_the_size_is_cut_hard(self) -> None:
        cut = chunks("a.md", self.document(Block("paragraph", "x" * 450)), cutting=Cutting(200, 0))
        assert [len(c.text) for c in cut] == [200, 200, 50]

    def test_ids_depend_on_text_and_place_not_on_position(self) -> None:
        one, two = Block("paragraph", "same " * 10), Block("paragraph", "other " * 10)
        first = chunks("a.md", self.document(one, two), cutting=Cutting(60, 0))
        second = chunks("a.md", self.document(Block("paragraph", "new " * 12), one, two, one), cutting=Cutting(60, 0))
        assert [c.id for c in second][1:3] == [c.id for c in first]
        assert len({c.id for c in second}) == 4
        assert {c.id for c in chunks("b.md", self.document(one, two), cutting=Cutting(60, 0))}.isdisjoint(c.id for c in first)

    @pytest.mark.parametrize("unit", ["characters", "tokens"])
    @pytest.mark.parametrize("overlap", [0, 40])
    def test_every_chunk_is_its_span_of_the_text_and_nothing_is_lost(self, unit: Any, overlap: int) -> None:
        rng = random.Random(7)
        parts = ["word ", "Ende. ", "你好。", "a\n", "x" * 30, "Is it? "]
        kinds: list[Any] = ["heading", "paragraph", "item", "row", "code", "picture"]
        for _ in range(100):
            found = [
                Block(rng.choice(kinds), "".join(rng.choices(parts, k=rng.randint(1, 60))).strip(), level=rng.randint(1, 3))
                for _ in range(rng.randint(1, 8))
            ]
            document, cutting = self.document(*(block for block in found if block.text)), Cutting(120, overlap, unit)
            text, covered = text_of(document), set[int]()
            for cut in chunks("a.md", document, cutting):
                assert cut.text == text[cut.start : cut.end]
                assert cutting.length(cut.text) <= 120
                covered.update(range(cut.start, cut.end))
            rest = "".join(c if i not in covered else " " for i, c in enumerate(text))
            headings = " ".join(block.text for block in document.blocks if block.kind == "heading").split()
            assert not Counter(rest.split()) - Counter(headings)
            # A heading stands above chunks, or is one.
            stored = {name for cut in chunks("a.md", document, cutting) for name in cut.headings}
            words = set("".join(c if i in covered else " " for i, c in enumerate(text)).split())
            for block in document.blocks:
                assert block.kind != "heading" or " ".join(block.text.split()) in stored or set(block.text.split()) <= words

    def test_a_heading_with_nothing_under_it_is_a_chunk(self) -> None:
        names = [
            ("Rules", 1),
            ("The gate code is 4471", 2),
            ("Lost cards: ring 3300", 2),
            ("Guards", 2),
            ("Night", 3),
            ("Day", 2),
        ]
        blocks = [Block("heading", text, level) for text, level in names]
        cut = chunks("a.md", self.document(*blocks[:5], Block("paragraph", "Mr Ilves."), blocks[5]))
        assert [(c.headings, c.text) for c in cut] == [
            (("Rules", "The gate code is 4471"), "The gate code is 4471"),
            (("Rules", "Lost cards: ring 3300"), "Lost cards: ring 3300"),
            (("Rules", "Guards", "Night"), "Mr Ilves."),
            (("Rules", "Day"), "Day"),
        ]

    def test_each_piece_of_a_long_row_names_its_row_and_column(self) -> None:
        answer = "It is so, and it goes on for a while. " * 6
        row = Block("row", f"Question: May I park here? | Answer: {answer.strip()} | Since: 2019")
        cut = chunks("a.csv", self.document(Block("heading", "Parking", 1), row), Cutting(120, 0))
        assert cut[0].headings == ("Parking",) and cut[0].text.startswith("Question: May I park here?")
        assert len(cut) == 3 and {c.headings for c in cut[1:]} == {("Parking", "Question: May I park here? | Answer")}

    def test_with_overlap_the_end_of_a_chunk_begins_the_next(self) -> None:
        text = "One sentence. Two sentences. Three sentences. Four sentences. Five sentences."
        cut = chunks("a.md", self.document(Block("paragraph", text)), Cutting(50, 20))
        assert [c.text for c in cut] == [
            "One sentence. Two sentences. Three sentences.",
            "Three sentences. Four sentences. Five sentences.",
        ]


class TestSync:
    @pytest.fixture(autouse=True)
    def _use(self, settings: Settings, wire: Wire, corpus: Path, tmp_path: Path) -> Iterator[None]:
        self.settings, self.wire, self.corpus, self.chroma = settings, wire, corpus, tmp_path / "chroma"
        with ExitStack() as self.opened:
            self.embeddings = self.opened.enter_context(closing(open_embeddings(settings)))
            self.database = self.opened.enter_context(closing(Database.shared(Where(self.chroma))))
            yield

    def store(self, name: str = "test") -> KeptStore:
        return self.opened.enter_context(KeptStore(self.chroma, name, create=True))

    def run(self, *paths: Path, **options: Any) -> Report:
        return ingest(paths or [self.corpus], self.store(), self.embeddings, **options)

    def counts(self, report: Report) -> tuple[int, int, int, int]:
        d = report.documents
        return d.added, d.changed, d.unchanged, d.removed

    def reindex(self, **options: Any) -> Report:
        return reindex(self.store(), self.embeddings, **options)

    def test_a_second_run_embeds_nothing_and_changes_nothing(self) -> None:
        first = self.run()
        assert self.counts(first) == (3, 0, 0, 0)
        assert (first.chunks.embedded, first.chunks.stored, first.embedding_requests) == (5, 5, 1)
        requests = len(self.wire.sent)
        second = self.run()
        assert self.counts(second) == (0, 0, 3, 0)
        assert (second.chunks.embedded, second.chunks.stored, second.chunks.deleted) == (0, 5, 0)
        assert len(self.wire.sent) == requests

    def test_only_the_chunks_that_changed_are_embedded(self) -> None:
        self.run()
        path = self.corpus / "policies" / "travel.md"
        path.write_text(path.read_text().replace("32 EUR", "35 EUR"))
        report = self.run()
        assert self.counts(report) == (0, 1, 2, 0)
        assert (report.chunks.embedded, report.chunks.deleted, report.chunks.stored) == (1, 1, 5)
        assert self.wire.sent[-1].body["input"] == ["Travel policy › Dinner\nDinner is paid up to 35 EUR in France."]

    def test_a_touched_file_costs_nothing(self) -> None:
        self.run()
        (self.corpus / "notes.txt").touch()
        assert self.run().chunks.embedded == 0

    def test_a_deleted_file_leaves_the_store_and_an_emptied_one_too(self) -> None:
        self.run()
        (self.corpus / "notes.txt").unlink()
        (self.corpus / "parking.html").write_text("<html></html>")
        report = self.run()
        assert self.counts(report) == (0, 0, 1, 1)
        assert [f.path for f in report.documents.empty] == ["parking.html"]
        assert set(self.store().documents()) == {"policies/travel.md"}

    def test_a_file_that_cannot_be_read_now_keeps_what_is_stored_of_it(self) -> None:
        (self.corpus / "manual.pdf").write_bytes(_pdf("A page of text."))
        self.run()
        (self.corpus / "manual.pdf").write_bytes(b"%PDF-1.4 broken")
        report = self.run()
        assert [(f.path, "not a readable PDF" in f.reason) for f in report.documents.failed] == [("manual.pdf", True)]
        assert "manual.pdf" in set(self.store().documents())

    def test_other_folders_are_left_alone_and_files_of_the_same_name_are_told_apart(self, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        (other / "more.md").write_text("More text.")
        self.run()
        self.run(other)
        assert len(self.store().documents()) == 4
        (other / "notes.txt").write_text("Mine.")
        report = self.run(other)
        assert (report.documents.added, report.documents.moved, report.chunks.embedded) == (1, 1, 1)
        mine = {"other/notes.txt", "other/more.md"}
        assert set(self.store().documents()) == {"notes.txt", "parking.html", "policies/travel.md"} | mine
        assert self.counts(self.run(other)) == (0, 0, 2, 0)
        report = self.run()
        assert (report.documents.moved, report.chunks.embedded, report.chunks.stored) == (3, 0, 7)
        assert set(self.store().documents()) == {"docs/notes.txt", "docs/parking.html", "docs/policies/travel.md"} | mine
        assert self.counts(self.run(self.corpus, other)) == (0, 0, 5, 0)

    def test_two_folders_with_files_of_the_same_name_go_into_one_collection(self, tmp_path: Path) -> None:
        shutil.copytree(self.corpus, tmp_path / "copy")
        self.run(self.corpus, tmp_path / "copy")
        assert len(self.store().documents()) == 6
        assert {d.split("/")[0] for d in self.store().documents()} == {"docs", "copy"}

    def test_one_file_alone_can_be_ingested_and_does_not_remove_the_rest(self) -> None:
        self.run()
        assert self.counts(self.run(self.corpus / "notes.txt")) == (0, 0, 1, 0)
        assert self.store().count() == 5

    def test_hidden_files_links_and_types_without_a_reader_are_left_out(self) -> None:
        (self.corpus / ".secret.md").write_text("no")
        (self.corpus / "link.md").symlink_to(self.corpus / "notes.txt")
        (self.corpus / "song.mp3").write_bytes(b"ID3\x04\0\0\0\0\0\0\xff\xfb\x90\0")
        report = self.run()
        assert self.counts(report) == (3, 0, 0, 0)
        assert [f.path for f in report.documents.skipped] == ["song.mp3"]

    def test_an_endpoint_that_fails_midway_leaves_a_store_that_the_next_run_completes(self) -> None:
        for i in range(30):
            (self.corpus / f"f{i}.txt").write_text(f"Text of file {i}.")
        calls = iter(range(100))
        self.wire.on("/embeddings", lambda body: embeddings(body) if next(calls) < 3 else Reply({"error": "down"}, 400))
        in_turn = Settings(**{**self.settings.model_dump(), "embedding_batch_size": 4, "embedding_concurrency": 1})
        self.embeddings = self.opened.enter_context(closing(open_embeddings(in_turn)))
        with pytest.raises(RagError, match="down"):
            self.run()
        assert 0 < self.store().count() < 35
        self.wire.on("/embeddings", embeddings)
        report = self.run()
        assert report.chunks.stored == 35 and report.chunks.embedded < 35
        assert self.run().chunks.embedded == 0

    def test_the_same_folder_is_recognised_from_anywhere_and_below_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run()
        monkeypatch.chdir(self.corpus)
        assert self.counts(self.run(Path("../docs"))) == (0, 0, 3, 0)
        assert self.counts(self.run(Path("policies"))) == (0, 0, 1, 0)
        assert self.counts(self.run(Path("policies/travel.md"))) == (0, 0, 1, 0)
        assert set(self.store().documents()) == {"policies/travel.md", "parking.html", "notes.txt"}

    def test_a_folder_above_an_earlier_one_takes_its_documents_over(self) -> None:
        self.run(self.corpus / "policies")
        report = self.run()
        assert self.counts(report) == (2, 0, 0, 0) and report.documents.moved == 1
        assert set(self.store().documents()) == {"policies/travel.md", "parking.html", "notes.txt"}

    def test_a_folder_above_takes_over_also_where_both_hold_a_file_of_the_same_name(self) -> None:
        (self.corpus / "policies" / "notes.txt").write_text("Notes on policies.")
        self.run(self.corpus / "policies")
        self.run()
        texts = set(self.store().documents())
        assert texts == {"policies/travel.md", "policies/notes.txt", "parking.html", "notes.txt"}
        assert self.counts(self.run()) == (0, 0, 4, 0)

    def test_folders_of_the_same_name_in_two_projects_do_not_touch_each_other(self, tmp_path: Path) -> None:
        other = tmp_path / "project" / "docs"
        other.mkdir(parents=True)
        (other / "more.md").write_text("More text.")
        self.run()
        assert self.counts(self.run(other)) == (1, 0, 0, 0)
        assert len(set(self.store().documents())) == 4

    @pytest.mark.parametrize("gone", [True, False], ids=["the folder is gone", "the folder is empty"])
    def test_a_folder_is_emptied_in_the_store_only_by_force(self, gone: bool, tmp_path: Path) -> None:
        self.run()
        shutil.rmtree(self.corpus)
        if not gone:
            self.corpus.mkdir()
        with pytest.raises(RagError, match="--force"):
            self.run()
        assert self.store().count() == 5
        report = self.run(force=True)
        assert (report.documents.removed, report.chunks.stored) == (3, 0)

    def test_a_file_name_that_is_no_text_is_indexed_under_a_name_that_is(self) -> None:
        Path(os.fsdecode(os.fsencode(self.corpus) + b"/bad\xff.md")).write_text("Badly named.")
        assert self.counts(self.run()) == (4, 0, 0, 0)
        assert "bad\\xff.md" in self.store().documents()
        assert self.counts(self.run()) == (0, 0, 4, 0)
        assert self.reindex(cutting=Cutting(500)).documents.added == 4

    @pytest.mark.parametrize("name", ["a\\xff.md", "a\\x5c.md", "\\x5cxff.md", "a\\b.md", "a\nb.md"])
    def test_a_name_that_looks_like_an_escape_is_its_own(self, name: str) -> None:
        (self.corpus / name).write_text("Oddly named.")
        assert self.counts(self.run()) == (4, 0, 0, 0)
        assert {document.path for document in self.store().documents().values()} >= {(self.corpus / name).resolve()}
        assert self.counts(self.run()) == (0, 0, 4, 0)
        assert self.reindex(cutting=Cutting(500)).documents.added == 4

    def test_a_text_that_the_endpoint_refuses_fails_its_document_and_no_other(self) -> None:
        def no_bananas(body: Any) -> Reply:
            bad = any("banana" in text for text in body["input"])
            return Reply({"error": {"message": "input was filtered"}}, 400) if bad else embeddings(body)

        self.wire.on("/embeddings", no_bananas)
        (self.corpus / "fruit.txt").write_text("A banana.")
        report = self.run()
        assert self.counts(report) == (3, 0, 0, 0) and report.chunks.stored == 5
        assert [(f.path, "input was filtered" in f.reason) for f in report.documents.failed] == [("fruit.txt", True)]
        self.wire.on("/embeddings", embeddings)
        assert self.counts(self.run()) == (1, 0, 3, 0)

    def test_another_process_sees_what_was_ingested_and_a_reindex(self) -> None:
        self.run()
        reader = self.store()
        vector_ = np.ones(64, dtype=np.float32)
        assert len(reader.nearest(vector_, 50)) == 5
        (self.corpus / "more.txt").write_text("More text.")
        env = {**os.environ, "PYTHONPATH": str(ROOT), "RAG_CHROMA_PATH": str(self.chroma), "RAG_COLLECTION": "test"}
        command = [sys.executable, "-m", "rag_app.cli.app"]
        subprocess.run([*command, "ingest", "docs"], env=env, check=True)
        assert len(reader.nearest(vector_, 50)) == reader.count() == 6
        (self.corpus / "more.txt").unlink()
        subprocess.run([*command, "ingest", "docs"], env=env, check=True)
        subprocess.run([*command, "reindex"], env={**env, "RAG_CHUNK_SIZE": "500"}, check=True)
        assert len(reader.nearest(vector_, 50)) == reader.count() == 5

    def test_a_reindex_that_would_lose_documents_is_refused(self, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        (other / "more.md").write_text("More text.")
        (self.corpus / "manual.pdf").write_bytes(_pdf("A page."))
        self.run()
        self.run(other)
        (self.corpus / "manual.pdf").write_bytes(b"%PDF-1.4 broken")
        with pytest.raises(RagError, match=r"manual\.pdf cannot be read now, so the old collection is kept"):
            self.reindex()
        (self.corpus / "manual.pdf").unlink()
        with pytest.raises(RagError, match=r"manual\.pdf can no longer be read, so the old collection is kept"):
            self.reindex()
        assert "manual.pdf" in self.store().documents()
        assert self.reindex(force=True).chunks.stored == self.store().count()
        assert set(self.store().documents()) == {"policies/travel.md", "parking.html", "notes.txt", "more.md"}

    def test_a_reindex_takes_the_settings_of_now_and_questions_go_on_meanwhile(self) -> None:
        self.run()
        reader, asked = self.store(), []

        def watched(body: Any) -> Reply:
            asked.append(len(reader.nearest(np.ones(64, dtype=np.float32), 50)))
            return embeddings(body)

        self.wire.on("/embeddings", watched)
        with pytest.raises(RagError, match=r"made with chunk size '1000', not '60'.*rag-app reindex"):
            self.run(cutting=Cutting(60, 0))
        self.reindex(cutting=Cutting(60, 0))
        assert asked == [5]
        assert self.store().recipe["chunk_size"] == "60"
        assert "test-reindex" not in self.database.names()

    def test_a_rebuild_that_was_broken_off_between_its_renames_is_repaired(self) -> None:
        self.run()
        self.database.rename("test", "test-replaced")
        assert self.store().count() == 5

    def test_another_embedding_model_is_refused_with_both_names_and_the_remedy(self) -> None:
        self.run()
        with pytest.raises(
            RagError, match=r"made with embedding model 'emb', not 'new', passage prefix '', not 'd: ': .*reindex"
        ):
            self.store().require({"embedding_model": "new", "passage_prefix": "d: "})

    def test_another_dimension_under_the_same_name_is_refused(self) -> None:
        self.run()
        self.wire.on("/embeddings", lambda body: Reply({"data": [{"index": 0, "embedding": [1.0, 2.0]}]}))
        (self.corpus / "new.txt").write_text("New.")
        with pytest.raises(RagError, match="has 64 dimensions, but its model now returned 2"):
            self.run()
        assert self.store().count() == 5

    def test_more_chunks_than_chroma_takes_at_once_are_stored_and_deleted(self) -> None:
        store = self.store().create({"embedding_model": "emb", "passage_prefix": ""}, 2)
        n = self.database.client.get_max_batch_size() + 10
        cut = [
            Chunk(
                id=f"{i}", document="a", title="a", headings=(), page=None, position=i, start=0, end=1, language="en", text="t"
            )
            for i in range(n)
        ]
        store.put([Written("a", Version(root="/", document_hash="", n_chunks=n, when=0.0), cut, np.ones((n, 2), np.float32))])
        assert store.count() == n == store.documents()["a"].chunks == len(store.chunks_of("a"))
        assert store.forget(["a"]) == {"a": n} and store.count() == 0

    def test_a_moved_file_embeds_nothing_and_leaves_nothing_at_its_old_place(self) -> None:
        self.run()
        (self.corpus / "notes.txt").rename(self.corpus / "policies" / "canteen.txt")
        requests = len(self.wire.sent)
        report = self.run()
        assert (report.documents.moved, *self.counts(report)) == (1, 0, 0, 2, 0)
        assert len(self.wire.sent) == requests
        assert set(self.store().documents()) == {"policies/travel.md", "parking.html", "policies/canteen.txt"}
        assert self.counts(self.run()) == (0, 0, 3, 0)

    @pytest.mark.parametrize("together", [True, False], ids=["in one run", "in two runs"])
    def test_two_equal_files_share_their_vectors(self, together: bool) -> None:
        if not together:
            self.run()
        shutil.copy(self.corpus / "policies" / "travel.md", self.corpus / "copy.md")
        report = self.run()
        assert report.chunks.stored == 8
        assert report.chunks.embedded == (5 if together else 0)
        vectors = [[vector.tolist() for _, vector in self.store().chunks_of(d)] for d in ("copy.md", "policies/travel.md")]
        assert vectors[0] == vectors[1]

    def test_vanished_documents_stay_without_prune(self) -> None:
        self.run()
        (self.corpus / "notes.txt").unlink()
        assert self.counts(self.run(prune=False)) == (0, 0, 2, 0)
        assert "notes.txt" in self.store().documents()

    def test_one_of_two_folders_that_is_unmounted_is_not_emptied(self, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        (other / "more.md").write_text("More text.")
        self.run(self.corpus, other)
        (other / "more.md").unlink()
        with pytest.raises(RagError, match=r"nothing is left to read in .*/other, but 1 document of it is stored"):
            self.run(self.corpus, other)

    def test_a_plan_says_what_a_run_would_do_and_does_nothing(self) -> None:
        self.run()
        (self.corpus / "notes.txt").rename(self.corpus / "new.txt")
        (self.corpus / "parking.html").unlink()
        (self.corpus / "policies" / "travel.md").write_text("# Travel policy\n\nOther.")
        (self.corpus / "more.md").write_text("More.")
        before = self.store().documents()
        found = look_through([self.corpus], self.store())
        planned = plan(found, self.store())
        assert planned.moved == (("notes.txt", "new.txt"),)
        assert (planned.added, planned.changed, planned.removed) == (("more.md",), ("policies/travel.md",), ("parking.html",))
        assert self.store().documents() == before

    def test_parts_together_are_the_whole_and_each_removes_only_its_own(self) -> None:
        for i in range(20):
            (self.corpus / f"f{i}.txt").write_text(f"Text {i}.")
        for part in ("1/3", "2/3", "3/3"):
            found = look_through([self.corpus], self.store())
            report = module.ingest(found.only(part), self.store(), self.embeddings)
            assert 0 < report.documents.added < 23
        assert len(self.store().documents()) == 23 and self.counts(self.run()) == (0, 0, 23, 0)
        for i in range(20):
            (self.corpus / f"f{i}.txt").unlink()
        gone = look_through([self.corpus], self.store())
        assert all(gone.only("2/3").has(name) for name in plan(gone.only("2/3"), self.store()).removed)
        removed = [module.ingest(gone.only(f"{i}/3"), self.store(), self.embeddings).documents.removed for i in (1, 2, 3)]
        assert sum(removed) == 20 and all(removed) and len(self.store().documents()) == 3
        for wrong in ("0/3", "4/3", "x", "3"):
            assert "is no part: write it as 3/8" in run("ingest", str(self.corpus), "--shard", wrong).stderr

    def test_a_second_ingest_at_once_is_told_who_is_at_work(self) -> None:
        told = pytest.raises(RagError, match=rf"test is being changed by process {os.getpid()}, started 20")
        with collection_lock(self.store()), ThreadPoolExecutor(1) as other, told:
            other.submit(self.run).result()
        assert self.counts(self.run()) == (3, 0, 0, 0)

    def test_a_question_asked_while_a_document_is_replaced_sees_one_version(self, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.corpus / "policies" / "travel.md"
        self.run()
        path.write_text(path.read_text().replace("EUR", "USD"))
        seen: list[set[str]] = []
        delete = Change._delete

        def slow(store: Change, *rows: Any) -> None:
            if rows[-1]:
                found = self.store().nearest(np.ones(64, dtype=np.float32), 50)
                seen.append({c.text for c in found if c.document == "policies/travel.md"})
            delete(store, *rows)

        monkeypatch.setattr(Change, "_delete", slow)
        self.run()
        assert [sum("USD" in text for text in texts) for texts in seen] == [2]
        assert not any("EUR" in text for texts in seen for text in texts)

    def test_what_a_run_that_was_killed_between_storing_and_removing_left_is_cleared(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = self.corpus / "policies" / "travel.md"
        self.run()
        path.write_text(path.read_text().replace("EUR", "USD"))
        with monkeypatch.context() as patched:
            patched.setattr(Change, "_delete", lambda store, *rows: (_ for _ in ()).throw(RagError(msg("killed"))))
            with pytest.raises(RagError, match="killed"):
                self.run()
        assert not self.store().documents()["policies/travel.md"].whole
        report = self.run()
        assert (report.documents.changed, report.chunks.embedded, report.chunks.stored) == (1, 0, 5)
        assert self.store().documents()["policies/travel.md"].whole

    def test_globs_and_ragignore_choose_files_and_hidden_ones_are_out(self) -> None:
        (self.corpus / "drafts").mkdir()
        (self.corpus / "drafts" / "a.md").write_text("Draft.")
        (self.corpus / "policies" / ".hidden.md").write_text("Hidden.")
        (self.corpus / ".ragignore").write_text("# comment\nparking.*\n")

        def names(choice: Choice) -> set[str]:
            return {file.document for file in look_through([self.corpus], None, choice).files}

        assert names(Choice()) == {"policies/travel.md", "notes.txt", "drafts/a.md"}
        assert names(Choice(include=("*.md",), exclude=("drafts/",))) == {"policies/travel.md"}
        assert "policies/.hidden.md" in names(Choice(hidden=True))

    def test_a_link_out_of_the_folder_is_not_followed(self, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "private.md").write_text("Private.")
        (self.corpus / "link").symlink_to(outside)
        (self.corpus / "file.md").symlink_to(outside / "private.md")
        assert self.counts(self.run()) == (3, 0, 0, 0)

    @pytest.mark.parametrize(
        ("action", "limits", "says"),
        [
            ("time.sleep(60)", Limits(6.0, 4000), r"more than 6 s \(RAG_READ_TIMEOUT\)"),
            ("bytearray(3_000_000_000)", Limits(60.0, 2000), r"more than 2,000 MB of memory \(RAG_READ_MEMORY_MB\)"),
            ("os.kill(os.getpid(), 11)", Limits(), "its reader crashed"),
        ],
        ids=["hangs", "explodes", "crashes"],
    )
    def test_a_reader_that_goes_wild_costs_its_file_and_no_other(
        self, action: str, limits: Limits, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A reader of this kind, loaded by the worker processes in place of the real one.
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "sitecustomize.py").write_text(WILD.format(action=action))
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{ROOT}")
        monkeypatch.setattr(module, "WORKERS", Workers("spawn"))
        (self.corpus / "wild.txt").write_text("wild")
        report = self.run(limits=limits)
        module.WORKERS.stop()
        assert [f.path for f in report.documents.failed] == ["wild.txt"]
        assert re.search(says, report.documents.failed[0].reason)
        assert self.counts(report) == (3, 0, 0, 0)

    def test_a_folder_below_heeds_the_lists_above_it_and_a_chroma_is_no_document(self) -> None:
        self.run()
        (self.corpus / ".ragignore").write_text("policies/secret.md\n")
        (self.corpus / "policies" / "secret.md").write_text("Secret.")
        shutil.copytree(self.chroma, self.corpus / "policies" / "chroma", ignore=shutil.ignore_patterns("keeper.*"))
        found = look_through([self.corpus / "policies"], self.store())
        assert [file.document for file in found.files] == ["policies/travel.md"]

    def test_a_pipe_is_no_file(self) -> None:
        os.mkfifo(self.corpus / "pipe.txt")
        with pytest.raises(RagError, match="neither a file nor a folder"):
            self.run(self.corpus / "pipe.txt")

    def test_what_of_a_file_was_not_read_is_noted(self) -> None:
        mail = email.message.EmailMessage()
        mail["Subject"] = "Report"
        mail.set_content("Please read.")
        mail.add_attachment(b"%PDF-1.4 broken", maintype="application", subtype="pdf", filename="report.pdf")
        (self.corpus / "mail.eml").write_bytes(bytes(mail))
        report = self.run()
        assert self.counts(report) == (4, 0, 0, 0)
        assert [(f.path, f.reason.partition(":")[0]) for f in report.documents.noted] == [
            ("mail.eml", "its attachment report.pdf was not read")
        ]

    def test_a_list_further_in_speaks_before_one_further_out(self) -> None:
        (self.corpus / ".ragignore").write_bytes(b"\xef\xbb\xbf*.md\n")
        (self.corpus / "policies" / ".ragignore").write_text("!travel.md\n")
        assert {f.document for f in look_through([self.corpus], None).files} == {
            "notes.txt",
            "parking.html",
            "policies/travel.md",
        }

    def test_a_copy_of_what_is_replaced_in_the_same_run_gets_vectors_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "WRITE", 1)
        (self.corpus / "a.md").write_text("# Cats\n\nThey sleep.")
        self.run()
        shutil.copy(self.corpus / "a.md", self.corpus / "z.md")
        (self.corpus / "a.md").write_text("# Dogs\n\nThey sleep.")
        for i in range(40):
            (self.corpus / f"b{i}.txt").write_text(f"Text {i}.")
        self.run()
        (chunk, vector), *_ = self.store().chunks_of("z.md")
        assert chunk.title == "Cats"
        expected = np.array(self.embeddings.question(chunk.text_in_context)[0])
        assert np.allclose(vector / np.linalg.norm(vector), expected / np.linalg.norm(expected), atol=1e-5)

    def test_a_reset_leaves_nothing_of_a_reindex_that_was_broken_off(self) -> None:
        self.run()
        self.store("test-replaced").create({}, 64)
        self.store("test-reindex").create({}, 64)
        reset(self.store())
        assert self.database.names() == []

    def test_a_collection_of_another_program_is_named_and_can_be_reset(self) -> None:
        found = self.database.client.create_collection("test", embedding_function=None)
        found.add(ids=["1"], embeddings=[[1.0, 0.0]], documents=["x"], metadatas=[{"document": "x", "first": True}])
        store = self.store()
        for asks in (store.documents, store.count, lambda: store.nearest(np.ones(2, np.float32), 1)):
            with pytest.raises(RagError, match="was made by another version or program: choose a different name"):
                asks()
        reset(store)
        assert store.count() == 0 and self.counts(self.run()) == (3, 0, 0, 0)

    def test_a_worker_that_has_nothing_to_do_is_not_ended(self) -> None:
        # In a process of its own, whose memory and time are limited as a worker's are.
        code = "import signal; from pathlib import Path; from ingest.chunk import Cutting; "
        code += "from ingest.worker import Limits, _limited, prepare; "
        code += "print(_limited(Limits(60), prepare, Path('notes.txt'), 'a', Cutting()).state, signal.alarm(0))"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment(), cwd=self.corpus, capture_output=True, text=True, check=True
        )
        assert done.stdout == "read 0\n"

    def test_documents_can_be_forgotten_by_name_and_by_folder(self) -> None:
        self.run()
        (self.corpus / "Gr\u00f6\u00dfe.md").write_text("Gr\u00f6\u00dfe.")
        self.run()
        store = self.store()
        assert chosen(store, ["policies"]) == ["policies/travel.md"]
        assert chosen(store, [str(self.corpus / "notes.txt"), "Gro\u0308\u00dfe.md"]) == ["Gr\u00f6\u00dfe.md", "notes.txt"]
        for name, says in (
            ("nowhere", "nowhere is not stored in test: run `rag-app documents` to list what is stored"),
            ("", "is empty"),
        ):
            with pytest.raises(RagError, match=says):
                chosen(store, [name])
        assert forget(store, chosen(store, ["policies", "notes.txt", "Gr\u00f6\u00dfe.md"]))["policies/travel.md"] == 3
        assert set(self.store().documents()) == {"parking.html"}


# Runs at the start of a worker: reading a file that says "wild" goes wild.
WILD = """
import os, time
from ingest import worker

real = worker.read
def read(path, content, ocr_seconds):
    if content == b"wild":
        {action}
    return real(path, content, ocr_seconds)
worker.read = read
"""


def _pdf(text: str) -> bytes:
    pdf = fpdf.FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica", size=11)
    pdf.cell(text=text)
    return bytes(pdf.output())
