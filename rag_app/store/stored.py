"""What a store holds and says: stored documents, their versions, and its errors. Nothing here knows which database it is."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import SecretStr

from rag_app.endpoints.embeddings import Vectors
from rag_app.errors import RagError
from rag_app.settings import RESERVED
from rag_app.types import Chunk
from rag_app.words import msg

# What a collection is called while it is made to replace another, and what that one is called then.
REINDEX, REPLACED = RESERVED
# In a filter, before a code: all documents in that language.
LANGUAGE = "language:"
# The file by which an embedded Chroma is known.
DATABASE = "chroma.sqlite3"
# And, in a folder of each index of its, the vectors.
INDEX = "data_level0.bin"
_NO_KEY = SecretStr("")


@dataclass(frozen=True)
class Where:
    """A Chroma: a folder, or a server by its URL, with what it asks for."""

    path: Path
    url: str = ""
    key: SecretStr = _NO_KEY
    tenant: str = ""
    database: str = ""

    @property
    def place(self) -> str:
        """What people call it."""
        return self.url or str(self.path)


@dataclass(frozen=True)
class Version:
    """What every chunk says of the document that it was cut from: where its file is, as what it was read, when, in how many."""

    root: str
    document_hash: str
    n_chunks: int
    when: float


@dataclass(frozen=True)
class StoredDocument:
    """A document in the store: its newest version, and how many chunks there are under its name.

    `whole` is false if a run that broke off left chunks of several versions, or too few.
    """

    document: str
    title: str
    language: str
    chunks: int
    whole: bool
    version: Version

    @property
    def path(self) -> Path:
        return named_back(f"{self.version.root}/{self.document}")


@dataclass(frozen=True)
class Listing:
    """What there is to choose from in a collection.

    If there are more documents than was asked for, or words are sought, `documents` and `folders` are not all: the documents
    that the words are found in, or those that lie in one folder themselves, and the folders in it. `whole` says that they are.
    """

    documents: tuple[StoredDocument, ...]
    folders: tuple[str, ...]
    languages: tuple[str, ...]
    n_documents: int
    n_chunks: int
    whole: bool


class Near(NamedTuple):
    """The row of a chunk in one version of its document, and the chunk's cosine similarity to a question."""

    row: str
    score: float


class Changes(NamedTuple):
    """Documents by name with the versions that are seen, how many there are in all, and when the last of them was stored.

    The time is in nanoseconds, by the clock of the machine that stored it.
    """

    versions: dict[str, str]
    n_documents: int
    last: int


class Written(NamedTuple):
    """A document to be stored: its chunks in order, and their vectors, shape (len(chunks), dim)."""

    document: str
    version: Version
    chunks: Sequence[Chunk]
    vectors: Vectors


def named(path: str) -> str:
    """Return a path of the file system as text; a byte that is none is written `\\xff`, and what looks like one `\\x5cxff`."""
    return re.sub(_BYTE, rb"\\x5c\1", os.fsencode(path)).decode("utf-8", "backslashreplace")


def named_back(name: str) -> Path:
    """Return the path that `named` wrote."""
    return Path(os.fsdecode(re.sub(_BYTE, lambda m: bytes.fromhex(m[1][1:].decode()), os.fsencode(name))))


# A byte as `named` writes it: one that is no text, or a backslash before what only looks like it.
_BYTE = rb"\\(x(?:[89a-f][0-9a-f]|5c))"


class EmptyCollectionError(RagError):
    """There is nothing to retrieve from yet."""

    @classmethod
    def of(cls, collection: str, place: str) -> Self:
        """Return the error for a collection without chunks."""
        return cls(
            msg("collection {collection} in {place} is empty", collection=collection, place=place),
            msg("run `rag-app ingest PATH` first"),
        )


@dataclass(frozen=True)
class Filter:
    """What a filter names: languages (language:de), folders (ending in "/"), and documents; what is in any of them is meant."""

    languages: frozenset[str]
    folders: frozenset[str]
    documents: frozenset[str]

    @classmethod
    def of(cls, only: Sequence[str]) -> Self:
        """Return the filter of these names."""
        names = {name for name in only if not name.startswith(LANGUAGE)}
        folders = {name for name in names if name.endswith("/")}
        languages = {name.removeprefix(LANGUAGE) for name in set(only) - names}
        return cls(frozenset(languages), frozenset(folders), frozenset(names - folders))

    def means(self, document: str, language: str) -> bool:
        """Whether a document is meant."""
        return (
            language in self.languages
            or document in self.documents
            or any(document.startswith(folder) for folder in self.folders)
        )


def places_of(document: str, language: str) -> list[str]:
    """Return all names by which a filter may mean a document: its own, its folders', its language's."""
    parts = document.split("/")[:-1]
    return [document, *("/".join(parts[:n]) + "/" for n in range(1, len(parts) + 1)), f"{LANGUAGE}{language}"]


def is_database(folder: Path) -> bool:
    """Whether a folder is that of an embedded database, rather than of documents."""
    return (folder / DATABASE).is_file() or next(folder.glob(f"*/{INDEX}"), None) is not None
