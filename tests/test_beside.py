"""An original beside its chunks: which words are stored, where a passage stands, a page as a picture."""

import io
from pathlib import Path

import fpdf
import pytest
from PIL import Image

from ingest.beside import excerpt, kind, page_picture
from ingest.chunk import chunks
from ingest.readers.load import read
from rag_app import colours
from rag_app.errors import RagError

RULE = "Lift at most four tonnes, and never over people who stand below the hook."
OTHER = "The crane is checked every morning by whoever drives it first."
YELLOW, ORANGE = (255, 224, 102), tuple(bytes.fromhex(colours.LOSS[0][1:]))


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    made = fpdf.FPDF()
    made.set_font("Helvetica", size=11)
    made.add_page()
    made.multi_cell(0, text=OTHER, new_x="LMARGIN", new_y="NEXT")
    made.ln(100)
    made.multi_cell(0, text=RULE, new_x="LMARGIN", new_y="NEXT")
    made.add_page()
    path = tmp_path / "crane.pdf"
    path.write_bytes(bytes(made.output()))
    return path


def rows_of(png: bytes, colour: tuple[int, ...]) -> list[int]:
    """Return the rows of pixels in which a colour is."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    return [y for y in range(picture.height) if any(picture.getpixel((x, y)) == colour for x in range(picture.width))]


class TestPagePicture:
    def test_the_passage_is_marked_where_it_stands_and_what_is_not_stored_is_framed(self, pdf: Path) -> None:
        found = page_picture(pdf, 1, f"{OTHER}\n{RULE}", RULE)
        assert (found.n_pages, found.n_words, found.missing) == (2, 25, ())
        assert not rows_of(found.png, ORANGE)
        rows = rows_of(found.png, YELLOW)
        assert rows and Image.open(io.BytesIO(found.png)).height / 4 < rows[0] and rows[-1] - rows[0] < 60
        without = page_picture(pdf, 1, RULE, "")
        assert without.missing == (
            "the",
            "crane",
            "is",
            "checked",
            "every",
            "morning",
            "by",
            "whoever",
            "drives",
            "it",
            "first",
        )
        assert rows_of(without.png, ORANGE)[0] < 200 and not rows_of(without.png, YELLOW)

    def test_a_page_without_words_is_a_picture_too(self, pdf: Path) -> None:
        found = page_picture(pdf, 2, "", "")
        assert (found.n_words, found.missing) == (0, ()) and found.png.startswith(b"\x89PNG")

    def test_a_file_that_cannot_be_drawn_is_an_error_with_its_reason(self, tmp_path: Path) -> None:
        (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.4 broken")
        with pytest.raises(RagError, match="it cannot be read"):
            page_picture(tmp_path / "bad.pdf", 1, "", "")


class TestExcerpt:
    @pytest.mark.parametrize(
        ("name", "source"),
        [
            ("rules.md", f"# Crane rules\n\n{OTHER}\n\n- **Load**: [{RULE}](https://example.com/crane)\n"),
            ("rules.html", f"<html><body><h1>Crane rules</h1><p class='x'>{OTHER}</p><p>{RULE}</p></body></html>"),
            ("rules.txt", f"{OTHER}\r\n\r\n{RULE}"),
            ("rules.csv", "rule,limit\nload,four tonnes\nheight,nine metres\n"),
            ("规则.md", "# 起重机规则\n\n吊钩下方有人时不得起吊，最多起吊四吨。\n"),
        ],
    )
    def test_all_that_was_read_of_a_text_is_found_in_it(self, tmp_path: Path, name: str, source: str) -> None:
        path = tmp_path / name
        path.write_text(source, "gb18030" if name == "规则.md" else "utf-8", newline="")
        assert kind(path) == "text"
        cut = chunks(name, read(path, path.read_bytes()))
        found = excerpt(path, ["\n".join((chunk.title, *chunk.headings, chunk.text)) for chunk in cut], cut[-1].text)
        assert found.missing == () and found.n_words > 5
        assert "".join(text for text, _ in found.pieces) in source
        marked = {mark for _, mark in found.pieces}
        assert "passage" in marked and ("markup" in marked) == (name in ("rules.html", "rules.md"))

    def test_what_is_not_stored_is_told(self, tmp_path: Path) -> None:
        path = tmp_path / "a.md"
        path.write_text(f"{OTHER}\n\nNobody stored this.\n\n{RULE}\n")
        found = excerpt(path, [OTHER, RULE], "")
        assert found.missing == ("Nobody", "stored", "this")
        assert [text for text, mark in found.pieces if mark == "missing"] == ["Nobody", "stored", "this"]

    def test_each_word_is_on_one_page_of_the_excerpts(self, tmp_path: Path) -> None:
        path = tmp_path / "a.md"
        told = [f"Paragraph {n} tells of the machine in hall {n}." for n in range(6)]
        path.write_text(
            "lost first\n\n" + "\n\n".join(told).replace("Paragraph 2", "lost amid\n\nParagraph 2") + "\n\nlost last"
        )
        pages = [
            excerpt(path, told[:2], "", to_the_end=False),
            excerpt(path, told[2:4], "", told[1], to_the_end=False),
            excerpt(path, told[4:], "", told[3]),
        ]
        assert [page.missing for page in pages] == [("lost", "first"), ("lost", "amid"), ("lost", "last")]
        assert sum(page.n_words for page in pages) == 6 * 9 + 6
        assert "".join(text for text, _ in pages[1].pieces).strip() == "lost amid\n\n" + "\n\n".join(told[2:4])

    def test_rows_of_repeated_cells_are_compared_in_no_time(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_text("id,a,b,c,d,e\n" + "".join(f"{i},0,0,0,1,0\n" for i in range(1000, 1500)))
        cut = chunks("a.csv", read(path, path.read_bytes()))
        found = excerpt(path, [chunk.text for chunk in cut[-10:]], "", cut[-11].text)
        # Where one row is like the other, the excerpt may begin within the one before.
        assert len(found.missing) <= 6 and 6 * 100 < found.n_words < 6 * 500
        # Of a long text all pairs would take hours.
        path.write_text("{% " * 100_000 + "hello")
        assert excerpt(path.rename(tmp_path / "a.md"), ["hello"], "").n_words == 1

    def test_a_file_that_is_none_any_more_cannot_be_shown(self, tmp_path: Path) -> None:
        (tmp_path / "a.docx").write_bytes(b"PK\x03\x04" + b"x" * 100)
        (tmp_path / "b.pdf").write_bytes(b"%PDF-")
        assert (kind(tmp_path / "a.docx"), kind(tmp_path / "b.pdf")) == ("", "pages")

    def test_a_file_that_changed_since_is_told(self, tmp_path: Path) -> None:
        path = tmp_path / "a.md"
        path.write_text("Something else.")
        with pytest.raises(RagError, match=r"what is stored is not in a\.md: ingest it again"):
            excerpt(path, [RULE], "")
