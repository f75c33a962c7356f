"""What Chroma keeps: a row for each chunk, and one for each document, which says which version of its chunks is seen.

Every write of a document is a version of its own, and a chunk's row bears it in its id: nothing is ever overwritten. A reader
takes the chunks of the version that the document's row names. So a document is seen whole or not at all, in however many
calls it is written.
"""

import hashlib
import re
import secrets
import time
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import accumulate, zip_longest
from typing import Any, NamedTuple

import numpy as np
import orjson

from rag_app import language
from rag_app.endpoints.embeddings import Vectors
from rag_app.store.stored import StoredDocument, Version, Written, values_of
from rag_app.types import WHERE, Chunk, Fields

# Chroma Cloud takes ids of 128 bytes, texts of 16,384 and values of 8,182: longer ones are hashed, and go on in further keys.
_ID, _TEXT, _VALUE = 100, 16_000, 8_000
# Folders by which a document may be found; Chroma Cloud takes 32 keys, of which fields may have eight.
_DEPTH = 14
# Of a name that is longer only the beginning is searched in.
_NAME = 4000
# In a document's row: when its version came to be seen.
CHANGED = "changed"
# In a document's row: what a search for documents finds it by.
GRAMS = "grams"
_WORD = re.compile(r"[^\W_]+")
# All that a chunk has but what Chroma keeps by itself or filters by: a field that is added is kept too.
_CHUNK_FIELDS = [name for name in Chunk.model_fields if name not in ("id", "text", "document", "language")]


def new_tag() -> str:
    """Return a name for one version of the documents that are written together."""
    return secrets.token_hex(6)


def tag_of(row_id: str) -> str:
    """Return the version that a chunk's row belongs to."""
    return row_id.rpartition("@")[2]


def without_tag(row_id: str) -> str:
    """Return the id of a chunk's row as it is in every version that has the chunk."""
    return row_id.rpartition("@")[0]


def folder_key(folder: str) -> str:
    """Return the key of metadata for a folder, ending in "/": folder1 for an outermost one, folder2 below."""
    return f"folder{folder.count('/')}"


def field_key(name: str) -> str:
    """Return the key of metadata for a field; its values are kept as texts, to be found by."""
    return f"field:{name}"


def without_fields(row: Any) -> dict[str, None]:
    """Return what takes the fields out of a document's row, into which Chroma merges others."""
    return {key: None for key in row if key.startswith(field_key(""))}


def _fields(fields: Fields) -> dict[str, list[str]]:
    return {field_key(name): list(map(str, values)) for name, values in fields.items()}


def _folders(document: str) -> dict[str, str]:
    """Return the folders that a document lies in as metadata."""
    parts = document.split("/")[:-1][:_DEPTH]
    folders = ["/".join(parts[:n]) + "/" for n in range(1, len(parts) + 1)]
    return {folder_key(folder): folder for folder in folders}


class ChunkRows(NamedTuple):
    """Rows of chunks as Chroma takes them."""

    ids: list[str]
    documents: list[str]
    metadatas: list[dict[str, Any]]


def chunk_rows(chunks: Sequence[Chunk], tag: str) -> ChunkRows:
    """Return the rows of chunks in one version of their documents."""
    rows = ChunkRows([], [], [])
    for chunk in chunks:
        short = _short(chunk.id)
        fields = {name: getattr(chunk, name) for name in _CHUNK_FIELDS} | ({"id": chunk.id} if short != chunk.id else {})
        text, *more = _pieces(chunk.text, _TEXT, _VALUE)
        # Chroma keeps, indexes and reads a row for each key.
        metadata = {
            "document": chunk.document,
            "language": chunk.language,
            **_kept("rest", orjson.dumps({"chunk": fields}).decode()),
        }
        metadata |= {f"text{n}": piece for n, piece in enumerate(more, 1)} | _folders(chunk.document) | _fields(chunk.fields)
        rows.ids.append(f"{short}@{tag}")
        rows.documents.append(text)
        rows.metadatas.append(metadata)
    return rows


def chunk_of(row_id: str, text: str | None, metadata: Any) -> dict[str, Any]:
    """Return the fields of the Chunk of a row. KeyError, TypeError or ValueError if something else wrote it."""
    return {
        "id": without_tag(row_id),
        "text": "".join([text or "", *_further("text", metadata)]),
        "document": metadata["document"],
        "language": metadata["language"],
        **orjson.loads(_rest(metadata))["chunk"],
    }


DOCUMENT, FOLDER, LANGUAGE, FIELD = "document", "folder", "language", "field"
# Rows that are none of a document.
FACETS = [FOLDER, LANGUAGE, FIELD]


def row_id(kind: str, name: str) -> str:
    """Return the id of the row of a document, a folder or a language."""
    return _short(f"{kind}:{name}")


def facets_of(document: str, language: str, fields: Fields) -> list[tuple[str, str]]:
    """Return kind and name of the folders, the language and the values of fields that a document belongs to."""
    folders = [(FOLDER, folder) for folder in _folders(document).values()]
    return [(LANGUAGE, language), *folders, *((FIELD, value) for value in values_of(fields))]


def facet_row(kind: str, name: str) -> dict[str, Any]:
    """Return the metadata of the row of a folder, a language or a value of a field."""
    return {"kind": kind, "document": name, "folder": _parent(name) if kind == FOLDER else ""}


def facet_where(kind: str, name: str) -> dict[str, Any]:
    """Return Chroma's filter for the documents in a folder or a language, or with a value of a field."""
    if kind == FIELD:
        field, _, value = name.removeprefix(WHERE).partition("=")
        return {field_key(field): {"$contains": value}}
    return {folder_key(name): name} if kind == FOLDER else {"language": name}


def _words(text: str) -> str:
    """Return a text's words in small letters, one space between."""
    return " ".join(_WORD.findall(text.lower()))


def _searched(document: str, title: str, code: str) -> str:
    """Return what a search for documents looks in, between spaces: name, title and language."""
    return f" {_words(document[:_NAME])} {_words(title[:_NAME])} {_words(f'{code} {language.name(code)}')} "


def _grams(text: str) -> Iterator[str]:
    """Yield what a text is found by: any three letters; of other alphabets, one and two."""
    for start in range(len(text)):
        for n in (1, 2, 3):
            gram = text[start : start + n]
            if len(gram) == n and (n == 3 or not gram.isascii()):
                yield gram


def _kept_grams(text: str) -> list[str]:
    """Return what a text is found by, as much as Chroma Cloud takes as one value."""
    kept = list(dict.fromkeys(_grams(text)))
    return kept[: bisect(list(accumulate(len(gram.encode()) for gram in kept)), _VALUE)]


class Sought:
    """What is sought in documents' names, titles and languages: parts of words; by one or two Latin letters, words' beginnings.

    Chroma looks through every text of every collection for what a text contains; what a list contains, it finds by an index.
    """

    def __init__(self, words: Sequence[str]) -> None:
        clean = [found for word in words if (found := _words(word[:_NAME]))]
        self._needles = [f" {word} "[:3] if len(word) < 3 and word.isascii() else word for word in clean]

    def where(self, most: int) -> list[dict[str, Any]]:
        """Return so many of Chroma's filters at most, for what may have all words."""
        # The end of a name says more than its beginning.
        grams = [list(dict.fromkeys(_grams(needle)))[::-1] for needle in self._needles]
        in_turn = dict.fromkeys(gram for turn in zip_longest(*grams) for gram in turn if gram)
        longest_first = sorted(in_turn, key=len, reverse=True)
        return [{GRAMS: {"$contains": gram}} for gram in longest_first[:most]]

    def found_in(self, document: StoredDocument) -> bool:
        """Return whether a document has all words."""
        text = _searched(document.document, document.title, document.language)
        return all(needle in text for needle in self._needles)


def _parent(name: str) -> str:
    return name.rstrip("/")[: name.rstrip("/").rfind("/") + 1]


def document_row(written: Written, tag: str, *, unfinished: bool) -> dict[str, Any]:
    """Return the metadata of a document's row, without what a search finds it by.

    `tag` is the version of its chunks that is seen, or "" for none; `unfinished` says that there may be chunks of others.
    """
    first = written.chunks[0]
    rest = {
        "title": first.title,
        "chunks": len(written.chunks),
        "version": asdict(written.version),
        "fields": first.fields,
    }
    return {
        "kind": DOCUMENT,
        "document": written.document,
        "language": first.language,
        "folder": _parent(written.document),
        "tag": tag,
        CHANGED: time.time_ns(),
        "unfinished": unfinished,
        **_folders(written.document),
        **_fields(first.fields),
        **_kept("rest", orjson.dumps(rest).decode()),
    }


def searched_row(written: Written, before: Any) -> dict[str, list[str]]:
    """Return what a search finds a document by, as metadata of its row; nothing if the row before had the same."""
    first = written.chunks[0]
    grams = _kept_grams(_searched(written.document, first.title, first.language))
    return {} if sorted(before.get(GRAMS) or []) == sorted(grams) else {GRAMS: grams}


def document_of(metadata: Any) -> StoredDocument:
    """Return the document of a row. KeyError, TypeError or ValueError if something else wrote it."""
    rest = orjson.loads(_rest(metadata))
    return StoredDocument(
        document=metadata["document"],
        title=rest["title"],
        language=metadata["language"],
        chunks=rest["chunks"],
        whole=bool(metadata["tag"]) and not metadata["unfinished"],
        version=Version(**rest["version"]),
        fields={name: tuple(values) for name, values in rest.get("fields", {}).items()},
    )


def place_of(name: str) -> Vectors:
    """Return a vector for a document's row, shape (2,), which nothing is ever sought by: Chroma has none without."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return np.frombuffer(digest, dtype=np.uint32).astype(np.float32)


def _short(name: str) -> str:
    if len(name.encode()) <= _ID:
        return name
    return f"{name.encode()[:50].decode(errors='ignore')}~{hashlib.sha256(name.encode()).hexdigest()[:40]}"


def _pieces(text: str, first: int, size: int) -> Iterator[str]:
    """Yield a text in pieces of at most so many bytes."""
    data = text.encode()
    start, end = 0, first
    while end < len(data):
        # Not within a character.
        while data[end] & 0xC0 == 0x80:
            end -= 1
        yield data[start:end].decode()
        start, end = end, end + size
    yield data[start:].decode()


def _kept(key: str, value: str) -> dict[str, Any]:
    first, *more = _pieces(value, _VALUE, _VALUE)
    if _full((more or [first])[-1]):
        more.append(" ")
    return {key: first, **{f"{key}{n}": piece for n, piece in enumerate(more, 1)}}


def _rest(metadata: Any) -> str:
    """Return the text that was kept in pieces; of a longer one before, further pieces are there still, for Chroma merges."""
    pieces = [metadata["rest"]]
    while _full(pieces[-1]):
        pieces.append(metadata[f"rest{len(pieces)}"])
    return "".join(pieces)


def _full(piece: str) -> bool:
    # A character has four bytes at most.
    return len(piece.encode()) > _VALUE - 4


def _further(key: str, metadata: Any) -> Iterator[str]:
    n = 1
    while piece := metadata.get(f"{key}{n}"):
        yield piece
        n += 1
