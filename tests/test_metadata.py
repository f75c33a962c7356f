"""Metadata: the fields that are declared, where their values come from, and questions that are limited to them."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import docx
import pytest
from fpdf import FPDF

from ingest.files import File
from ingest.metadata import Describing
from ingest.readers.properties import stated
from rag_app.errors import RagError
from rag_app.settings import Settings, fields, load_settings
from rag_app.store.opening import open_store
from tests.helpers import ingest_into, run

KINDS = fields("year:int,country,kind,author")


def described(root: Path, name: str, content: bytes = b"Text.") -> tuple[Any, list[str]]:
    """Return the fields of a file in a folder, and what is said of those that cannot be used."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    found = Describing(tuple(KINDS.items())).of(File(path, str(root), name))
    assert found
    return found.fields(*stated(content))


def word() -> bytes:
    document = docx.Document()
    document.add_paragraph("Text.")
    document.core_properties.author, document.core_properties.category = "Ms Vega", "x"
    content = io.BytesIO()
    document.save(content)
    return content.getvalue()


def open_document() -> bytes:
    names = 'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:meta="urn:oasis:names:tc:opendocument:xmlns:meta:1.0"'
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as package:
        package.writestr(
            "meta.xml",
            f"<x {names}><dc:creator>Mx Aro</dc:creator><meta:user-defined meta:name='Kind'>rule</meta:user-defined></x>",
        )
    return content.getvalue()


def pdf() -> bytes:
    document = FPDF()
    document.add_page()
    document.set_author("Mr Lund")
    return bytes(document.output())


@pytest.mark.parametrize(
    ("content", "wanted"),
    {
        "front matter": (b"---\nyear: 2026\ncountry: DE\nother: x\n---\nText.", {"year": (2026,), "country": ("DE",)}),
        "a list": (b"---\ncountry: [DE, AT, DE]\nyear: '2026'\n---\nText.", {"year": (2026,), "country": ("DE", "AT")}),
        "TOML": (b"+++\nyear = 2026\n+++\nText.", {"year": (2026,)}),
        "names in capitals": (b"---\nYear: 2026\nKind: ' a  b '\n---\nText.", {"year": (2026,), "kind": ("a b",)}),
        "half a character": (b'---\nkind: "a\\ud800b"\n---\nText.', {"kind": ("a?b",)}),
        "a date as text": (b"---\nkind: 2026-03-01\n---\nText.", {"kind": ("2026-03-01",)}),
        "nothing in it": (b"---\nkind:\ncountry: ''\n---\nText.", {}),
        "no front matter": (b"kind: faq\n\nText.", {}),
        "tags of a page": (b"<html><meta name=author content='Ms Roth'><p>Text.</p></html>", {"author": ("Ms Roth",)}),
        "properties of Word": (word(), {"author": ("Ms Vega",)}),
        "properties of a PDF": (pdf(), {"author": ("Mr Lund",)}),
        "properties of OpenDocument": (open_document(), {"author": ("Mx Aro",), "kind": ("rule",)}),
    }.values(),
)
def test_fields_come_from_what_a_file_says_of_itself(tmp_path: Path, content: bytes, wanted: Any) -> None:
    assert described(tmp_path, "a.x", content) == (wanted, [])


def test_fields_come_from_folders_and_sidecars_and_the_nearest_word_counts(tmp_path: Path) -> None:
    (tmp_path / "_meta.yaml").write_text("kind: general\nfolders: country/year\nfiles:\n  '*-draft.*': {kind: draft}\n")
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / "_meta.yaml").write_text("kind: German\n")
    assert described(tmp_path, "fr/2025/a.md")[0] == {"country": ("fr",), "year": (2025,), "kind": ("general",)}
    assert described(tmp_path, "de/2026/a.md")[0] == {"country": ("de",), "year": (2026,), "kind": ("German",)}
    assert described(tmp_path, "de/a.md")[0] == {"country": ("de",), "kind": ("German",)}
    # A glob names this very file, which counts more than what stands in it; that counts more than a folder's.
    front = b"---\nkind: own\nyear: 2020\n---\nText."
    assert described(tmp_path, "de/2026/b.md", front)[0] == {"country": ("de",), "year": (2020,), "kind": ("own",)}
    assert described(tmp_path, "de/2026/b-draft.md", front)[0]["kind"] == ("draft",)
    # What somebody wrote of a folder counts more than what a program wrote into a file.
    (tmp_path / "de" / "_meta.yaml").write_text("author: HR\n")
    assert described(tmp_path, "de/a.docx", word())[0]["author"] == ("HR",)
    # Letters may be large.
    (tmp_path / "de" / "_meta.yaml").write_text("Kind: German\nFolders: Year\n")
    assert described(tmp_path, "de/2026/a.md")[0] == {"country": ("de",), "kind": ("German",), "year": (2026,)}
    # Names of folders may say it themselves.
    (tmp_path / "_meta.yaml").unlink()
    assert described(tmp_path, "Kind=memo/year=2024/a.md")[0] == {"kind": ("memo",), "year": (2024,)}


@pytest.mark.parametrize(
    ("front", "note"),
    [
        (b"year: soon", "field year is left out: soon is not a whole number"),
        (b"year: 100000000000000000000", "field year is left out: 100000000000000000000 is not a whole number"),
        (b"year: 20.5", "field year is left out: 20.5 is not a whole number"),
        (b"kind: {a: b}", "field kind is left out: its value is neither text nor a number"),
        (b"kind: " + b"x" * 101, "field kind is left out: its value is longer than 100 characters"),
        (b"kind: [" + b"1," * 30 + b"2]", "field kind is left out: it has more than 20 values"),
    ],
)
def test_a_value_that_cannot_be_used_is_noted(tmp_path: Path, front: bytes, note: str) -> None:
    assert described(tmp_path, "a.md", b"---\n" + front + b"\n---\nText.") == ({}, [note])


@pytest.mark.parametrize(
    ("sidecar", "error"),
    [
        ("kind: [", "it is not YAML"),
        ("- kind", "it has no names with values"),
        ("files: [a]", "files is not a list of file names"),
        ("files: {a.md: kind}", "files is not a list of file names"),
        ("folders: [country]", "folders is not the names of fields, such as country/year"),
        ("year: soon", "field year: soon is not a whole number"),
        ("files: {a.md: {year: soon}}", "field year: soon is not a whole number"),
        ("files: {a.md: {Year: soon}}", "field year: soon is not a whole number"),
        ("files: {'!': {year: 2026}}", "files has a pattern that is none"),
        ("kind: \udcff", "it is not YAML"),
    ],
)
def test_a_sidecar_that_cannot_be_used_is_an_error_that_names_it(tmp_path: Path, sidecar: str, error: str) -> None:
    (tmp_path / "_meta.yaml").write_bytes(sidecar.encode("utf-8", "surrogateescape"))
    with pytest.raises(RagError, match=rf"_meta\.yaml: {error}.*: fix it, or remove the file"):
        described(tmp_path, "a.md")


@pytest.mark.parametrize(
    ("declared", "error"),
    [
        ("Year", "Year cannot be the name of a field"),
        ("a,a", "a cannot be the name of a field"),
        ("language", "language cannot be the name of a field: use small letters.*not document, folder, language"),
        ("year:date", "date is no kind of field: write it like year:int,country"),
        ("a,b,c,d,e,f,g,h,i", "more than 8 fields"),
    ],
)
def test_fields_that_cannot_be_declared_are_named(declared: str, error: str) -> None:
    with pytest.raises(RagError, match=f"RAG_METADATA: {error}"):
        load_settings(metadata=declared)


@pytest.fixture
def editions(tmp_path: Path) -> Path:
    folder = tmp_path / "editions"
    for year in (2024, 2025, 2026):
        for country in ("de", "fr"):
            path = folder / country / f"warranty-{year}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# Warranty\n\nThe warranty of {year} in {country} lasts {year - 2000} months.")
    (folder / "_meta.yaml").write_text(
        "folders: country\nfiles:\n" + "".join(f"  '*-{y}.md': {{year: {y}}}\n" for y in (2024, 2025, 2026))
    )
    return folder


def declared(settings: Settings, fields: str = "country,year:int") -> Settings:
    return settings.model_copy(update={"metadata": fields})


def counted(settings: Settings) -> Any:
    with open_store(settings) as store:
        return store.listing().fields


def test_what_is_declared_later_is_filled_in_without_embedding_anything(settings: Settings, editions: Path) -> None:
    assert ingest_into(settings, editions).documents.added == 6 and counted(settings) == {}
    report = ingest_into(declared(settings), editions)
    assert (report.documents.changed, report.chunks.embedded) == (6, 0)
    assert counted(settings) == {"country": {"de": 3, "fr": 3}, "year": {"2024": 2, "2025": 2, "2026": 2}}
    assert ingest_into(declared(settings), editions).documents.unchanged == 6
    # Another word in a sidecar reaches the documents that it is about, and no others.
    (editions / "fr" / "_meta.yaml").write_text("country: France\n")
    report = ingest_into(declared(settings), editions)
    assert (report.documents.changed, report.documents.unchanged, report.chunks.embedded) == (3, 3, 0)
    assert counted(settings)["country"] == {"France": 3, "de": 3}
    # And what is declared no longer is gone.
    assert ingest_into(declared(settings, "year:int"), editions).documents.changed == 6
    assert counted(settings) == {"year": {"2024": 2, "2025": 2, "2026": 2}}
    assert ingest_into(settings, editions).documents.changed == 6 and counted(settings) == {}


@pytest.mark.parametrize("stage", ["hybrid", "dense", "lexical"])
def test_a_question_is_limited_to_what_has_the_fields(
    settings: Settings, editions: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    ingest_into(declared(settings), editions)

    def found(*where: str) -> set[str]:
        options = [part for one in where for part in ("--where", one)]
        result = run("search", "How long is the warranty?", "--first-stage", stage, "--json", *options)
        assert result.exit_code == 0, result.output
        candidates = json.loads(result.stdout)["candidates"]
        assert all(c["fields"]["year"] == [int(c["document"][-7:-3])] for c in candidates)
        return {c["document"] for c in candidates}

    assert len(found()) == 6
    assert found("year=2026") == {"de/warranty-2026.md", "fr/warranty-2026.md"}
    assert found("year=2026", "year=2024", "country=de") == {"de/warranty-2026.md", "de/warranty-2024.md"}
    assert found("folder=fr", "year=2025") == {"fr/warranty-2025.md"}
    assert found("document=fr/warranty-2025.md", "year=2026") == set()
    assert found("language=en", "country=fr") == {f"fr/warranty-{year}.md" for year in (2024, 2025, 2026)}


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("year", "--where year is not FIELD=VALUE: write it like year=2026"),
        ("=2026", "--where =2026 is not FIELD=VALUE"),
        ("year=2030", "no document in collection handbook has year=2030: run `rag-app documents` to see what they have"),
        ("colour=red", "no document in collection handbook has colour=red"),
    ],
)
def test_what_no_document_has_is_an_error(settings: Settings, editions: Path, where: str, error: str) -> None:
    ingest_into(declared(settings), editions)
    result = run("search", "How long?", "--where", where)
    assert result.exit_code == 1 and error in " ".join(result.stderr.split())


def test_documents_are_listed_with_their_fields(settings: Settings, editions: Path) -> None:
    ingest_into(declared(settings), editions)
    listed = json.loads(run("documents", "--json").stdout)["documents"]
    assert listed[0]["document"] == "de/warranty-2024.md" and listed[0]["fields"] == {"country": ["de"], "year": [2024]}
    assert "2024" in run("documents").stdout


def test_a_note_of_a_value_that_was_left_out_reaches_the_report(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.md").write_text("---\nyear: soon\n---\nText.")
    report = ingest_into(declared(settings), tmp_path / "a")
    assert [(f.path, f.reason) for f in report.documents.noted] == [
        ("x.md", "field year is left out: soon is not a whole number")
    ]
