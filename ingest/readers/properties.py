"""What a file says of itself: front matter, which somebody wrote, and properties, which mostly a program did."""

import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import bs4

from ingest.readers.document import UnreadableError
from ingest.readers.encoding import decode
from ingest.readers.html import front_matter
from ingest.readers.package import open_package, parse_xml

# Office Open XML, its properties that people add, and OpenDocument.
_PARTS = ("docProps/core.xml", "docProps/custom.xml", "meta.xml")
# Characters of a page in which its tags are looked for.
_HEAD = 100_000


def stated(content: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the front matter of a file that was read, and its properties, by their names in small letters."""
    front: dict[str, Any] = {}
    found: dict[str, Any] = {}
    if content.startswith(b"%PDF"):
        found = dict(_of_pdf(content))
    elif content.startswith(b"PK"):
        with suppress(zipfile.BadZipFile, UnreadableError):
            found = dict(_of_package(open_package(content)))
    else:
        with suppress(UnreadableError):
            front, rest = front_matter(decode(content))
            found = dict(_of_html(rest[:_HEAD]))
    return by_name(front), by_name(found)


def by_name(found: Mapping[Any, Any]) -> dict[str, Any]:
    """Return values by the names that fields have: small letters, and underscores between words."""
    return {str(name).strip().lower().replace(" ", "_").replace("-", "_"): value for name, value in found.items()}


def _of_pdf(content: bytes) -> Iterator[tuple[str, Any]]:
    import pypdfium2

    with suppress(pypdfium2.PdfiumError), pypdfium2.PdfDocument(content) as document:
        yield from document.get_metadata_dict(skip_empty=True).items()


def _of_package(package: zipfile.ZipFile) -> Iterator[tuple[str, Any]]:
    for part in _PARTS:
        if part not in package.namelist():
            continue
        for element in parse_xml(package.read(part)).iter():
            text = "".join(element.itertext()).strip()
            name = element.get("name") or next((v for key, v in element.attrib.items() if str(key).endswith("}name")), "")
            name = str(name) or re.sub(r"^\{.*\}", "", str(element.tag))
            if text and (element.get("name") or not len(element)):
                yield name, text
                if name == "creator":
                    yield "author", text


def _of_html(text: str) -> Iterator[tuple[str, Any]]:
    if not re.search(r"<meta\s", text, re.IGNORECASE):
        return
    for tag in bs4.BeautifulSoup(text, "lxml").find_all("meta"):
        if tag.get("name") and tag.get("content"):
            yield str(tag["name"]), str(tag["content"])
