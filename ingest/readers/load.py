"""Reading: what kind of file it is, by its content first, and one reader per kind."""

import io
import json
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

import filetype
import olefile
from pygments.lexers import find_lexer_class_for_filename

from ingest.readers.document import Block, Document, EmptyError, NoDocumentError, Read, SkippedError, UnreadableError, locked
from ingest.readers.encoding import decode
from ingest.readers.epub import read_epub
from ingest.readers.html import read_html, read_markdown
from ingest.readers.mail import Letter, read_eml, read_mailbox, read_saved_page
from ingest.readers.ocr import CURRENT, Ocr
from ingest.readers.package import open_package
from ingest.readers.plain import (
    read_code,
    read_csv,
    read_json,
    read_jsonl,
    read_notebook,
    read_subtitles,
    read_text,
    read_xml,
    read_yaml,
)
from rag_app.extras import MissingExtraError, require
from rag_app.words import NOTHING, Message, msg, pmsg


def read(path: Path, content: bytes, ocr_seconds: float = 0.0) -> Document:
    """Return the document in a file's bytes, never one without text; OCR reads scans and photographs for so long.

    UnreadableError, SkippedError and EmptyError say why there is none; nothing else is raised.
    """
    if not content.strip():
        raise EmptyError(msg("it has no text") if content else msg("it is empty: 0 bytes"))
    CURRENT.set(Ocr(ocr_seconds, _read_picture) if ocr_seconds else None)
    title, blocks = _read(path, content)
    notes = tuple(block.text for block in blocks if block.kind == "note")
    sound = (replace(block, text=_sound(block.text)) for block in blocks if block.kind != "note")
    blocks = [block for block in sound if block.text.strip()]
    if not blocks:
        front = content.lstrip()[:3] == b"---"
        raise EmptyError(msg("it has front matter but no text") if front else msg("it has no text"))
    title = title or next((b.text for b in blocks if b.kind == "heading" and b.level == 1), "")
    title = " ".join(_sound(title).split()) or path.stem.replace("-", " ").replace("_", " ")
    if all(block.kind == "heading" for block in blocks):
        # Headings with nothing under them are the text.
        blocks = [replace(block, kind="paragraph", level=0) for block in blocks]
    return Document(_sound(title), tuple(blocks), notes)


def _read(path: PurePath, content: bytes) -> Read:
    kind = path.suffix.lower().removeprefix(".")
    try:
        with warnings.catch_warnings():
            # Libraries warn of what they repair in a file; what they cannot repair they raise.
            warnings.simplefilter("ignore")
            kind = kind_of(path, content)
            return READERS[kind](content)
    except (NoDocumentError, MemoryError):
        raise
    except MissingExtraError as error:
        raise UnreadableError(error.happened, error.remedy) from error
    except Exception as error:
        # A reader meets whatever a file holds; whatever it raises is this file's failure and no one else's.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise _broken(kind, reason) from error


def _broken(kind: str, reason: str) -> UnreadableError:
    return UnreadableError(
        msg("not a readable {kind} file ({reason})", kind=kind.upper(), reason=reason),
        msg("check that it was copied whole, or save it again"),
    )


def _archive(kind: str) -> SkippedError:
    return SkippedError(msg("it is an archive ({kind})", kind=kind), msg("unpack it first"))


_MEDIA = {
    "image": pmsg("a kind of file", "an image"),
    "video": pmsg("a kind of file", "a video"),
    "audio": pmsg("a kind of file", "an audio file"),
}


def _no_text(kind: str, media: str = "", remedy: Message = NOTHING) -> SkippedError:
    what = _MEDIA.get(media, pmsg("a kind of file", "a binary file"))
    return SkippedError(msg("it is {what} ({kind}), and only text is indexed", what=what, kind=kind or "?"), remedy)


def _sound(text: str) -> str:
    """Return text that can be stored and sent: a lone surrogate becomes "?", what is not seen is left out."""
    # What terminals take for colours and titles; control characters, soft hyphens, spaces of no width.
    text = re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)", "", text)
    return re.sub(r"[\0-\x08\x0e-\x1f\x7f\xad\u200b\u2060\ufeff]", "", text.encode("utf-8", "replace").decode())


def _read_mailbox(content: bytes) -> Read:
    """Return the messages of a mailbox, each under its subject."""
    blocks: list[Block] = []
    for letter in read_mailbox(content):
        found = _with_attached(letter)
        blocks.append(Block("heading", letter.subject or "?", level=1))
        blocks += [replace(b, level=min(b.level + 1, 6)) if b.kind == "heading" else b for b in found]
    return "", blocks


def _mail(read_letter: Callable[[bytes], Letter]) -> Callable[[bytes], Read]:
    """Return a reader of mail."""

    def read_mail(content: bytes) -> Read:
        letter = read_letter(content)
        return letter.subject, _with_attached(letter)

    return read_mail


def _with_attached(letter: Letter) -> list[Block]:
    """Return a mail's blocks with those of each attachment, by its own reader, under a heading with the attachment's name."""
    blocks = list(letter.blocks)
    for name, attached in letter.attachments:
        blocks.append(Block("heading", name, level=2))
        try:
            inside = _read(PurePath(name), attached)[1]
        except NoDocumentError as error:
            inside = [Block("note", msg("its attachment {name} was not read: {error}", name=_sound(name), error=error))]
        blocks += [replace(b, level=min(b.level + 2, 6)) if b.kind == "heading" else b for b in inside]
    return blocks


# Modules of readers whose packages are in the extra `files`.
EXTRA = tuple(f"ingest.readers.{name}" for name in ("word", "slides", "odf", "pdf", "workbook", "old_workbook"))


def _extra(kind: str, module: str, name: str) -> Callable[[bytes], Any]:
    """Return a reader that is loaded when it is first called, if the extra `files` is installed."""

    def read_file(content: bytes) -> Any:
        require("files", msg("Reading {kind} needs more packages", kind=kind))
        return getattr(import_module(f"ingest.readers.{module}"), name)(content)

    return read_file


def _read_image(content: bytes) -> Read:
    """A photograph or scan, if OCR may read it."""
    ocr = CURRENT.get()
    if ocr is None:
        raise _no_text(filetype.guess_extension(content), "image", msg("RAG_OCR_TIMEOUT=600 has the text in it read"))
    found: Read = import_module("ingest.readers.rapid").read_image(content, ocr)
    return found


def _read_picture(picture: Any, page: int) -> tuple[list[Block], float]:
    """Read a picture by OCR, whose packages are loaded for the first one."""
    require("ocr", msg("Reading pictures needs more packages"))
    found: tuple[list[Block], float] = import_module("ingest.readers.rapid").read_picture(picture, page)
    return found


READERS: dict[str, Callable[[bytes], Read]] = {
    "markdown": read_markdown,
    "text": read_text,
    "html": read_html,
    "pdf": _extra("PDF", "pdf", "read_pdf"),
    "docx": _extra("Word files", "word", "read_docx"),
    "doc": _extra("Word files", "word", "read_doc"),
    "pptx": _extra("PowerPoint files", "slides", "read_pptx"),
    "ppt": _extra("PowerPoint files", "slides", "read_ppt"),
    "xlsx": _extra("Excel files", "workbook", "read_workbook"),
    "xls": _extra("Excel files", "old_workbook", "read_old_workbook"),
    "image": _read_image,
    "csv": read_csv,
    "epub": read_epub,
    "odt": _extra("OpenDocument files", "odf", "read_odf"),
    "odp": _extra("OpenDocument files", "odf", "read_odf"),
    "ods": _extra("OpenDocument files", "workbook", "read_workbook"),
    "rtf": _extra("RTF", "plain", "read_rtf"),
    "eml": _mail(read_eml),
    "msg": _mail(_extra("Outlook mail", "mail", "read_msg")),
    "json": read_json,
    "jsonl": read_jsonl,
    "xml": read_xml,
    "code": read_code,
    "yaml": read_yaml,
    "notebook": read_notebook,
    "mailbox": _read_mailbox,
    "mhtml": read_saved_page,
    "subtitles": read_subtitles,
}
# What a name says of text that could be several things; every other name is asked of pygments.
_NAMES = {
    **dict.fromkeys(("md", "markdown", "mdown", "mkd", "mdx", "qmd", "rmd"), "markdown"),
    **dict.fromkeys(("txt", "text", "log", "rst", "tex", "adoc", "asciidoc", "org"), "text"),
    **dict.fromkeys(("srt", "vtt"), "subtitles"),
    **dict.fromkeys(("mht", "mhtml"), "mhtml"),
    **dict.fromkeys(("yaml", "yml"), "yaml"),
    "ipynb": "notebook",
    "mbox": "mailbox",
    **dict.fromkeys(("html", "htm", "xhtml", "shtml"), "html"),
    **dict.fromkeys(("csv", "tsv", "tab", "xls"), "csv"),
    **dict.fromkeys(("jsonl", "ndjson"), "jsonl"),
    **dict.fromkeys(("json", "geojson"), "json"),
    "eml": "eml",
}
# Names of files that are no text: text in them is what is left of a broken copy, unless it says itself what it is.
_NO_TEXT = {"pdf", "docx", "pptx", "xlsx", "epub", "odt", "odp", "ods", "msg", "doc", "ppt", "rtf"}
_ARCHIVES = {"zip", "tar", "gz", "bz2", "7z", "rar", "xz", "zst", "lz", "Z", "ar", "cab", "rpm", "deb"}
# Those that can be read by OCR.
_PICTURES = {"png", "jpg", "tif", "webp", "gif", "bmp", "jp2", "jpx"}
_OLD = {"WordDocument": "doc", "PowerPoint Document": "ppt"}


def kind_of(path: PurePath, content: bytes) -> str:
    """Return the kind of file that the content is, a key of READERS; the name decides only between kinds of text.

    SkippedError says what it is, if there is no reader for it.
    """
    named = path.suffix.lower().removeprefix(".")
    start = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"%PDF-") or (named == "pdf" and b"%PDF-" in start):
        return "pdf"
    if start.startswith(b"{\\rtf"):
        return "rtf"
    if content.startswith(b"PK\x03\x04"):
        return _kind_of_package(named, content)
    if content.startswith(olefile.MAGIC):
        return _kind_of_ole(content)
    guess = filetype.guess(content)
    if guess is not None:
        if guess.extension in _ARCHIVES:
            raise _archive(guess.extension)
        if guess.extension in _PICTURES:
            return "image"
        raise _no_text(guess.extension, guess.mime.partition("/")[0])
    return _kind_of_text(path, named, content)


def _kind_of_package(named: str, content: bytes) -> str:
    with open_package(content) as package:
        names = set(package.namelist())
        declared = package.read("mimetype").decode("ascii", "replace").strip() if "mimetype" in names else ""
    for kind, member in {"docx": "word/document", "pptx": "ppt/presentation.xml", "xlsx": "xl/"}.items():
        if any(name.startswith(member) for name in names):
            return kind
    if declared == "application/epub+zip":
        return "epub"
    for kind, word in {"odt": ".text", "odp": ".presentation", "ods": ".spreadsheet"}.items():
        if declared.startswith(f"application/vnd.oasis.opendocument{word}"):
            return kind
    if any(name.endswith(".iwa") for name in names):
        raise SkippedError(msg("it is an Apple iWork file"), msg("export it as .docx, .pptx or .xlsx first"))
    if named in READERS:
        raise _broken(named, msg("parts of it are missing"))
    raise _archive("zip")


def _kind_of_ole(content: bytes) -> str:
    """Return the kind of a file in the container of Office up to 2003, in which newer ones stand if they are encrypted."""
    with olefile.OleFileIO(io.BytesIO(content)) as container:
        if container.exists("EncryptedPackage"):
            raise locked()
        if container.exists("__properties_version1.0"):
            return "msg"
        if container.exists("Workbook") or container.exists("Book"):
            return "xls"
        for stream, kind in _OLD.items():
            if container.exists(stream):
                return kind
    raise _no_text("ole")


def _kind_of_text(path: PurePath, named: str, content: bytes) -> str:
    kind = _NAMES.get(named, "")
    lexer = None if kind or named in _NO_TEXT else find_lexer_class_for_filename(path.name)
    try:
        text = decode(content)
    except UnreadableError:
        if kind or lexer:
            return kind or "code"
        if named in _NO_TEXT:
            raise _broken(named, msg("it lacks the header of that format")) from None
        raise _no_text(named) from None
    start = text[:4000].lstrip("\ufeff \t\r\n")
    if kind != "markdown" and (lexer is None or lexer.name in ("XML", "HTML")):
        if re.match(r"(?:<\?xml.*?\?>\s*|<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", start, re.IGNORECASE | re.DOTALL):
            return "html"
        if re.match(r"(?:<\?xml.*?\?>\s*|<!.*?>\s*)*<svg\b", start, re.DOTALL):
            raise _no_text("svg", "image")
        if start.startswith("<?xml") or (lexer is not None and lexer.name == "XML"):
            return "xml"
    if kind in ("", "text", "eml") and re.match(r"From \S+.*\d{4}\r?\n[\w-]+: ", start):
        return "mailbox"
    if kind in ("", "text") and re.match(r"(?:Received|Return-Path|Delivered-To|MIME-Version|Message-ID): ", start, re.I):
        return "eml"
    if named in _NO_TEXT:
        raise _broken(named, msg("it lacks the header of that format"))
    if not kind and lexer is None and start[:1] in ("{", "["):
        with suppress(ValueError):
            json.loads(text)
            return "json"
    return kind or ("code" if lexer else "text")
