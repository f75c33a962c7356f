"""What a store holds and says: stored documents, their versions, and its errors. Nothing here knows which database it is."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rag_app.errors import RagError
from rag_app.settings import RESERVED
from rag_app.words import msg

# What a collection is called while it is made to replace another, and what that one is called then.
REINDEX, REPLACED = RESERVED
# In a filter, before a code: all documents in that language.
LANGUAGE = "language:"
# The file by which an embedded Chroma is known.
DATABASE = "chroma.sqlite3"


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


def meant(collection: str, only: Sequence[str], documents: Callable[[], Iterable[str]]) -> tuple[set[str], set[str]]:
    """Return the languages and the stored documents that a filter means: documents, folders/, language:de.

    RagError if a name means no document; `documents` is called only where there are such names.
    """
    languages = {name.removeprefix(LANGUAGE) for name in only if name.startswith(LANGUAGE)}
    names = [name for name in only if not name.startswith(LANGUAGE)]
    known = list(documents()) if names else []
    below = {name: [d for d in known if d == name or (name.endswith("/") and d.startswith(name))] for name in names}
    if gone := [name for name, found in below.items() if not found]:
        raise RagError(
            msg("no longer in collection {collection}: {names}", collection=collection, names=", ".join(gone)),
            msg("remove it from the filter"),
        )
    return languages, {document for found in below.values() for document in found}


def is_database(folder: Path) -> bool:
    """Whether a folder is that of an embedded database, rather than of documents."""
    return (folder / DATABASE).is_file()
