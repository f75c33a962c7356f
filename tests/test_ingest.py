"""Ingest: readers, chunks, and a store that equals the corpus."""

import io
from pathlib import Path

import docx
import fpdf
import pytest

from ingest.chunk import chunks
from ingest.load import Block, Document, UnreadableError, read
from ingest.sync import Report, ingest
from rag_app import pipeline
from rag_app.settings import Settings
from rag_app.store import Store
from rag_app.types import RagError
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

    def test_a_rule_at_the_top_of_markdown_is_not_front_matter(self) -> None:
        assert blocks("a.md", b"---\nnot: [closed\n---\ntext") != []

    def test_html_is_read_without_navigation_scripts_and_comments(self) -> None:
        html = "<title>T</title><nav>menu</nav><script>run()</script><h1>Head <b>line</b></h1>"
        html += "<div>loose<p>one\nor<br>two</p></div>"
        html += "<!-- no -->"
        document = read(Path("a.html"), html.encode())
        assert document.title == "Head line"
        assert [block.text for block in document.blocks] == ["Head line", "loose", "one or\ntwo"]

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
            ("cp1252", "Die Straße in München ist für Fußgänger gesperrt, natürlich."),
            ("gb18030", "员工出差的住宿标准由财务部门规定，超出部分自理。" * 3),
        ],
    )
    def test_encodings_are_told(self, encoding: str, text: str) -> None:
        assert blocks("a.txt", text.encode(encoding)) == [("paragraph", text)]

    @pytest.mark.parametrize(
        ("name", "content", "says"),
        [
            ("a.pdf", b"not a pdf", "not a readable PDF"),
            ("a.docx", b"PK\x03\x04 broken", "not a readable .docx file"),
            ("a.docx", b"", "not a readable .docx file"),
        ],
    )
    def test_a_broken_file_says_what_is_wrong(self, name: str, content: bytes, says: str) -> None:
        with pytest.raises(UnreadableError, match=says):
            read(Path(name), content)

    def test_a_pdf_without_text_says_to_run_ocr(self) -> None:
        pdf = fpdf.FPDF()
        pdf.add_page()
        with pytest.raises(UnreadableError, match="OCR"):
            read(Path("scan.pdf"), bytes(pdf.output()))


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
            size=100,
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
        cut = chunks("a.md", self.document(Block("paragraph", text)), size=200)
        assert all(len(c.text) <= 200 and c.text[-1] in ".。！？" for c in cut)
        assert joint.join(c.text for c in cut) == text.strip()

    def test_a_word_longer_than_the_size_is_cut_hard(self) -> None:
        cut = chunks("a.md", self.document(Block("paragraph", "x" * 450)), size=200)
        assert [len(c.text) for c in cut] == [200, 200, 50]

    def test_ids_depend_on_text_and_place_not_on_position(self) -> None:
        one, two = Block("paragraph", "same " * 10), Block("paragraph", "other " * 10)
        first = chunks("a.md", self.document(one, two), size=60)
        second = chunks("a.md", self.document(Block("paragraph", "new " * 12), one, two, one), size=60)
        assert [c.id for c in second][1:3] == [c.id for c in first]
        assert len({c.id for c in second}) == 4
        assert {c.id for c in chunks("b.md", self.document(one, two), size=60)}.isdisjoint(c.id for c in first)


class TestSync:
    @pytest.fixture(autouse=True)
    def _use(self, settings: Settings, wire: Wire, corpus: Path, tmp_path: Path) -> None:
        self.settings, self.wire, self.corpus, self.chroma = settings, wire, corpus, tmp_path / "chroma"

    def store(self) -> Store:
        return Store(self.chroma, "", "test", create=True)

    def run(self, *paths: Path) -> Report:
        return ingest(paths or [self.corpus], self.store(), pipeline.embeddings(self.settings))

    def counts(self, report: Report) -> tuple[int, int, int, int]:
        d = report.documents
        return d.added, d.changed, d.unchanged, d.removed

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
        assert {s.document for s in self.store().stored().values()} == {"policies/travel.md"}

    def test_a_file_that_cannot_be_read_now_keeps_what_is_stored_of_it(self) -> None:
        (self.corpus / "manual.pdf").write_bytes(_pdf("A page of text."))
        self.run()
        (self.corpus / "manual.pdf").write_bytes(b"%PDF-1.4 broken")
        report = self.run()
        assert [(f.path, "not a readable PDF" in f.reason) for f in report.documents.failed] == [("manual.pdf", True)]
        assert "manual.pdf" in {s.document for s in self.store().stored().values()}

    def test_other_folders_are_left_alone_and_a_file_of_the_same_name_is_refused(self, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        (other / "more.md").write_text("More text.")
        self.run()
        self.run(other)
        assert len({s.document for s in self.store().stored().values()}) == 4
        (other / "notes.txt").write_text("Mine.")
        with pytest.raises(RagError, match=r"notes\.txt is in docs and in other"):
            self.run(other)

    def test_one_file_alone_can_be_ingested_and_does_not_remove_the_rest(self) -> None:
        self.run()
        assert self.counts(self.run(self.corpus / "notes.txt")) == (0, 0, 1, 0)
        assert self.store().count() == 5

    def test_hidden_files_links_and_types_without_a_reader_are_left_out(self) -> None:
        (self.corpus / ".secret.md").write_text("no")
        (self.corpus / "link.md").symlink_to(self.corpus / "notes.txt")
        (self.corpus / "song.mp3").write_bytes(b"la")
        report = self.run()
        assert self.counts(report) == (3, 0, 0, 0)
        assert [(f.path, f.reason) for f in report.documents.skipped] == [("song.mp3", "no reader for .mp3")]

    def test_an_endpoint_that_fails_midway_leaves_a_store_that_the_next_run_completes(self) -> None:
        for i in range(30):
            (self.corpus / f"f{i}.txt").write_text(f"Text of file {i}.")
        calls = iter(range(100))
        self.wire.on("/embeddings", lambda body: embeddings(body) if next(calls) < 3 else Reply({"error": "down"}, 400))
        self.settings = Settings(**{**self.settings.model_dump(), "embedding_batch_size": 4, "embedding_concurrency": 1})
        with pytest.raises(RagError, match="down"):
            self.run()
        assert 0 < self.store().count() < 35
        self.wire.on("/embeddings", embeddings)
        report = self.run()
        assert report.chunks.stored == 35 and report.chunks.embedded < 35
        assert self.run().chunks.embedded == 0

    def test_another_embedding_model_is_refused_with_both_names_and_the_remedy(self) -> None:
        self.run()
        with pytest.raises(RagError, match=r"embedded with emb, not with new: .*rag-app ingest --rebuild"):
            self.store().require_model("new")

    def test_another_dimension_under_the_same_name_is_refused(self) -> None:
        self.run()
        self.wire.on("/embeddings", lambda body: Reply({"data": [{"index": 0, "embedding": [1.0, 2.0]}]}))
        (self.corpus / "new.txt").write_text("New.")
        with pytest.raises(RagError, match="has 64 dimensions, but emb returned 2"):
            self.run()
        assert self.store().count() == 5

    def test_more_chunks_than_chroma_takes_at_once_are_stored(self) -> None:
        size = self.store().client.get_max_batch_size()
        (self.corpus / "long.txt").write_text("\n\n".join(f"{i} " + "word " * 180 for i in range(size + 10)))
        self.settings = Settings(**{**self.settings.model_dump(), "embedding_batch_size": 2048})
        assert self.run().chunks.stored == size + 15


def _pdf(text: str) -> bytes:
    pdf = fpdf.FPDF()
    pdf.add_page()
    pdf.set_font("Helvetica", size=11)
    pdf.cell(text=text)
    return bytes(pdf.output())
