"""XML, and ZIP packages of it, read with care: no bombs, nothing fetched."""

import io
import re
import zipfile
from collections.abc import Mapping

from lxml import etree

from ingest.readers.document import UnreadableError
from rag_app.words import msg

# What a package may unpack to; a book with pictures is a tenth of it.
MAX_UNPACKED = 500_000_000


def open_package(content: bytes) -> zipfile.ZipFile:
    """Return the members of a ZIP. UnreadableError if they unpack to more than a document does."""
    package = zipfile.ZipFile(io.BytesIO(content))
    # What a member declares is all that zipfile reads of it.
    unpacked = sum(member.file_size for member in package.infolist())
    if unpacked > MAX_UNPACKED:
        size, limit = unpacked // 1_000_000, MAX_UNPACKED // 1_000_000
        raise UnreadableError(
            msg("it unpacks to {size} MB, over the limit of {limit} MB for a document", size=size, limit=limit),
            msg("check where it comes from"),
        )
    return package


def parse_xml(content: bytes) -> etree._Element:
    """Return the root of XML. Entities of the file itself are read up to libxml2's limit, nothing is fetched."""
    # libxml2 stops a bomb: "Maximum entity amplification factor exceeded".
    parser = etree.XMLParser(
        resolve_entities="internal", no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
    )
    try:
        return etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise UnreadableError(msg("not valid XML ({reason})", reason=error), msg("fix it or export it again")) from error


def replace_element(element: etree._Element, others: list[etree._Element]) -> None:
    """Put elements in the place of one."""
    parent = element.getparent()
    if parent is not None:
        at = parent.index(element)
        parent[at : at + 1] = others


def changed(package: zipfile.ZipFile, parts: Mapping[str, bytes]) -> bytes:
    """Return a package with other parts in the place of its own."""
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as copied:
        for member in package.infolist():
            part = parts.get(member.filename)
            copied.writestr(member.filename, package.read(member) if part is None else part)
    return changed.getvalue()


def value_of(element: etree._Element | None, name: str = "val") -> str:
    """Return an attribute, whatever its namespace: Word has two."""
    return "" if element is None else next((str(v) for key, v in element.items() if etree.QName(key).localname == name), "")


def n_elements(package: zipfile.ZipFile, members: str, name: str) -> int:
    """Return how many elements of a name there are in the members that a pattern names."""
    found = [member for member in package.namelist() if re.fullmatch(members, member)]
    return sum(1 for member in found for _ in parse_xml(package.read(member)).iter(f"{{*}}{name}"))
