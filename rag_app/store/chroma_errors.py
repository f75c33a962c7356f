"""What Chroma and SQLite say when something is wrong, as what it is; of damage neither says where."""

import re
import shutil

from rag_app.errors import RagError
from rag_app.store.stored import DATABASE, Where
from rag_app.words import msg

_LITTLE_ROOM = 10_000_000
_BUSY = re.compile(
    r"too many requests|rate limit|log needs compaction|write batching pressure|database is locked", re.IGNORECASE
)
_INDEX = re.compile(r"hnsw|pickle|Error finding id|backfill", re.IGNORECASE)
_TORN = re.compile(r"malformed|not a database|pull logs from the log store")
_READ_ONLY = re.compile(r"readonly database|unable to open")
_FULL = re.compile(r"disk is full")
_UNMADE = re.compile(r"Nothing found on disk")


class StoppedError(Exception):
    """The keeper ends: whoever asked is to ask the next one."""


class MissingError(RagError):
    """Chroma has no collection of that name any more."""


class NoVectorsError(RagError):
    """There are chunks, but no index yet: what a disk leaves that was full when the first was to be made."""


def passes(error: BaseException) -> bool:
    """Whether what went wrong is worth another try a little later."""
    return bool(_BUSY.search(str(error)))


def index_damaged(where: Where, how: str) -> RagError:
    """Return the error for a damaged index."""
    return RagError(
        msg("the vector index in {place} is damaged ({how})", place=where.place, how=how),
        msg("run `rag-app repair`, which makes it anew from what is stored"),
    )


def foreign(where: Where, collection: str) -> RagError:
    """Return the error for a collection that is not as this version keeps it."""
    return RagError(
        msg(
            "collection {collection} in {place} was made by another version or program",
            collection=collection,
            place=where.place,
        ),
        msg("choose a different name (RAG_COLLECTION), or `rag-app reset` it and ingest again"),
    )


def is_full(where: Where, error: Exception) -> bool:
    """Whether the disk of a folder is full: Chroma's own message does not always name it."""
    if where.url or not where.path.is_dir():
        return False
    return shutil.disk_usage(where.path).free < _LITTLE_ROOM or bool(_FULL.search(str(error)))


def named(where: Where, error: Exception) -> RagError:
    """Return what went wrong as what it is, with what mends it."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    happened = msg("Chroma at {place}: {reason}", place=where.place, reason=reason)
    if where.url:
        denied = "permission denied" in reason.lower()
        keys = msg("check RAG_CHROMA_API_KEY, RAG_CHROMA_TENANT and RAG_CHROMA_DATABASE")
        if _said_anywhere("CERTIFICATE_VERIFY_FAILED", error):
            trust = msg("set SSL_CERT_FILE to the PEM file of the certificate authority that signed it")
            return RagError(msg("the certificate of Chroma at {place} is not trusted", place=where.place), trust)
        return RagError(happened, keys if denied else msg("check RAG_CHROMA_URL"))
    if is_full(where, error):
        free = shutil.disk_usage(where.path).free
        room = msg("its disk has only {free:.1f} MB left: free some space and run the same command again", free=free / 1e6)
        return RagError(happened, room)
    if _READ_ONLY.search(reason):
        return RagError(
            msg("{path} is read-only for this user, and Chroma writes there also to read", path=where.path / DATABASE),
            msg("make it writable"),
        )
    if _TORN.search(reason):
        return RagError(
            msg("the database {path} is damaged", path=where.path / DATABASE),
            msg("run `rag-app repair`, or `rag-app restore` a backup; `rag-app reset` begins anew"),
        )
    if _UNMADE.search(reason):
        return NoVectorsError(happened, msg("run `rag-app repair`"))
    if _INDEX.search(reason):
        return index_damaged(where, reason)
    return RagError(happened, msg("check RAG_CHROMA_PATH, or run `rag-app repair`"))


def _said_anywhere(text: str, error: BaseException | None) -> bool:
    """Whether an error says something, or one that it came from: Chroma's own tells only that it could not connect."""
    while error is not None:
        if text in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
