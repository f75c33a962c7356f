"""What a store holds and says: stored documents, their versions, and its errors. Nothing here knows which database it is."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import SecretStr

from rag_app.endpoints.embeddings import Vectors
from rag_app.errors import RagError
from rag_app.settings import RESERVED
from rag_app.types import WHERE, Chunk, Fields
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
    # What its fields depend on beside its file; "" where it has none.
    described: str = ""


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
    fields: Fields = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return named_back(f"{self.version.root}/{self.document}")


@dataclass(frozen=True)
class Listing:
    """What there is to choose from in a collection.

    If there are more documents than was asked for, or words are sought, `documents` and `folders` are not all: the documents
    that the words are found in, or those that lie in one folder themselves, and the folders in it. `whole` says that they are.
    `fields` counts the documents that have a value, by field and value; only in a listing of everything, and of a field with
    too many values none.
    """

    documents: tuple[StoredDocument, ...]
    folders: tuple[str, ...]
    languages: tuple[str, ...]
    n_documents: int
    n_chunks: int
    whole: bool
    fields: dict[str, dict[str, int]] = field(default_factory=dict)


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
    """What a filter names: documents and folders (ending in "/"), languages (language:de), values of fields (where:year=2026).

    A document is meant that is named or lies in a folder that is, where there are such; and is in one of the languages, where
    there are such; and has one of the values of each field that there is one of.
    """

    documents: frozenset[str]
    folders: frozenset[str]
    languages: frozenset[str]
    fields: dict[str, frozenset[str]]

    @classmethod
    def of(cls, only: Sequence[str]) -> Self:
        """Return the filter of these names."""
        languages = {name for name in only if name.startswith(LANGUAGE)}
        values = {name for name in only if name.startswith(WHERE)}
        names = set(only) - languages - values
        folders = {name for name in names if name.endswith("/")}
        fields: dict[str, set[str]] = {}
        for one in values:
            name, _, value = one.removeprefix(WHERE).partition("=")
            fields.setdefault(name, set()).add(value)
        return cls(
            frozenset(names - folders),
            frozenset(folders),
            frozenset(code.removeprefix(LANGUAGE) for code in languages),
            {name: frozenset(wanted) for name, wanted in fields.items()},
        )

    @property
    def names_documents(self) -> bool:
        """Whether it names documents and nothing else."""
        return not (self.folders or self.languages or self.fields)

    def means(self, document: str, language: str, fields: Fields) -> bool:
        """Whether a document is meant."""
        placed = document in self.documents or any(document.startswith(folder) for folder in self.folders)
        return (
            (placed or not (self.documents or self.folders))
            and (language in self.languages or not self.languages)
            and all(wanted & set(map(str, fields.get(name, ()))) for name, wanted in self.fields.items())
        )


def facets(only: Sequence[str]) -> list[list[str]]:
    """Return the names of a filter in groups, of each of which a document must have one."""
    groups: dict[str, list[str]] = {}
    for name in only:
        of_field = name.partition("=")[0] if name.startswith(WHERE) else ""
        groups.setdefault(LANGUAGE if name.startswith(LANGUAGE) else of_field, []).append(name)
    return list(groups.values())


def names_of(document: str, language: str, fields: Fields) -> list[str]:
    """Return all names by which a filter may mean a document: its own, its folders', its language's, its fields'."""
    parts = document.split("/")[:-1]
    folders = ["/".join(parts[:n]) + "/" for n in range(1, len(parts) + 1)]
    return [document, *folders, f"{LANGUAGE}{language}", *values_of(fields)]


def values_of(fields: Fields) -> list[str]:
    """Return what a filter calls the values of fields."""
    return [f"{WHERE}{name}={value}" for name, values in fields.items() for value in values]


def is_database(folder: Path) -> bool:
    """Whether a folder is that of an embedded database, rather than of documents."""
    return (folder / DATABASE).is_file() or next(folder.glob(f"*/{INDEX}"), None) is not None
