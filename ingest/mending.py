"""Mending: an embedded Chroma that is damaged is made whole again, from what is left of it and from the files."""

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from ingest import sync
from ingest.files import File, Found
from ingest.sync import Progress, Report
from rag_app.builtin.late import KeptTokens
from rag_app.endpoints.embeddings import Vectors
from rag_app.endpoints.opening import open_embeddings
from rag_app.errors import RagError
from rag_app.lexical.kept import remove_indexes
from rag_app.settings import Settings
from rag_app.store import chroma_files, kept
from rag_app.store.chroma_rows import chunk_of, place_of
from rag_app.store.locks import all_locks
from rag_app.store.opening import open_store
from rag_app.store.stored import DATABASE, is_database, named_back
from rag_app.types import Chunk, Record
from rag_app.words import Said, msg

REPAIRING = msg("it is being repaired: try again when that has ended")
# In a folder that was put aside, the documents that are to be ingested anew.
_TO_DO = "documents.json"
RESTORING = msg("a backup is being restored: try again when that has ended")


class Mended(Record):
    """What a repair found and did.

    `indexes` are the collections whose index was made anew, with what was wrong; `embedded` counts the vectors that had to be
    embedded again. `aside` is where a database that could not be read was put, and `reports` are the runs that made its
    collections anew from their files; `lost` are documents whose files are gone.
    """

    indexes: dict[str, Said] = Field(default_factory=dict)
    embedded: int = 0
    aside: str = ""
    reports: dict[str, Report] = Field(default_factory=dict)
    lost: tuple[str, ...] = ()


def repair(settings: Settings, progress: Progress | None = None, on_index: Callable[[str], None] = lambda name: None) -> Mended:
    """Make the index of each damaged collection anew, or all of it from the files if the database cannot be read.

    RagError for a server, which has tools of its own, where there is nothing to repair, and if an endpoint fails; run again,
    it goes on from there.
    """
    _check_embedded(settings)
    folder = settings.chroma_path
    if not folder.is_dir():
        raise RagError(
            msg("there is no folder {path}", path=folder), msg("check RAG_CHROMA_PATH, or run `rag-app ingest PATH`")
        )
    damaged: dict[str, Said] = {}
    embedded = 0
    aside = ""
    with kept.alone(folder, REPAIRING):
        if not is_readable(settings):
            known = chroma_files.remembered(folder)
            put = chroma_files.set_aside(folder)
            # For a repair that breaks off, which the next one goes on with.
            (put / _TO_DO).write_text(json.dumps(known), "utf-8")
            aside = str(put)
        for index in chroma_files.indexes(folder) if is_database(folder) else ():
            on_index(index.name)
            if how := chroma_files.worn(folder, index):
                embedded += chroma_files.rebuild(folder, index, lambda rows: _embedded(settings, rows))
                damaged[index.name] = how
    for name in damaged:
        # Chroma makes an index when it is first asked.
        on_index(name)
        kept.build(folder, name)
    reports, lost = _from_files(settings, progress or Progress())
    return Mended(indexes=damaged, embedded=embedded, aside=aside, reports=reports, lost=lost)


def is_readable(settings: Settings) -> bool:
    """Whether the database of an embedded Chroma is whole; a server's, and none, are taken to be."""
    folder = settings.chroma_path
    if settings.chroma_url or not is_database(folder):
        return True
    try:
        chroma_files.check_database(folder)
    except RagError:
        return False
    return chroma_files.is_sound(folder)


def clear(settings: Settings) -> None:
    """Delete all collections of an embedded Chroma, whatever state it is in."""
    with all_locks(settings.chroma_path), kept.alone(settings.chroma_path, REPAIRING) as folder:
        chroma_files.remove(folder)
        remove_indexes(settings.lexical_path, str(settings.chroma_path))
        KeptTokens(settings.builtin_path).remove()


def _embedded(settings: Settings, rows: Sequence[tuple[str, str, dict[str, Any]]]) -> Vectors:
    """Return the vectors of rows whose own are lost, made anew from their texts."""
    if rows and "kind" in rows[0][2]:
        return np.stack([place_of(row_id) for row_id, _, _ in rows])
    texts = [Chunk(**chunk_of(*row)).text_in_context for row in rows]
    with closing(open_embeddings(settings)) as embeddings:
        return np.concatenate([batch.vectors for batch in embeddings.passages(texts)])


def _from_files(settings: Settings, progress: Progress) -> tuple[dict[str, Report], tuple[str, ...]]:
    """Ingest anew the files that databases which were put aside still named; return the runs, and what has no file any more."""
    reports: dict[str, Report] = {}
    lost: list[str] = []
    for to_do in sorted(settings.chroma_path.glob(f"damaged-*/{_TO_DO}")):
        for collection, documents in json.loads(to_do.read_text("utf-8")).items():
            own = settings.model_copy(update={"collection": collection or settings.collection})
            files = [File(named_back(f"{root}/{name}"), root, name) for name, root in documents.items()]
            lost += [file.document for file in files if not file.path.is_file()]
            there = [file for file in files if file.path.is_file()]
            if there:
                cutting, limits = sync.cutting_and_limits(own)
                found = Found(there, [Path(root) for root in set(documents.values())])
                with open_store(own, create=True) as store, closing(open_embeddings(own)) as embeddings:
                    reports[own.collection] = sync.ingest(
                        found, store, embeddings, cutting, limits, progress, prune=False, force=True
                    )
        to_do.unlink()
    return reports, tuple(sorted(lost))


def backup(settings: Settings, target: Path) -> None:
    """Copy an embedded Chroma to a folder that is not there yet, also while it is asked and written. RagError if it fails."""
    _check_embedded(settings)
    kept.backup(settings.chroma_path, target)


def restore(settings: Settings, source: Path, *, replace: bool = False) -> None:
    """Put a backup in the place of what is stored. RagError if there is something there, without `replace`."""
    _check_embedded(settings)
    folder = settings.chroma_path
    if not is_database(source):
        raise RagError(msg("there is no backup in {path}", path=source), msg("name a folder that `rag-app backup` wrote"))
    chroma_files.check_database(source)
    if source.resolve() == folder.resolve():
        raise RagError(msg("{path} is what would be replaced", path=source), msg("name a folder that `rag-app backup` wrote"))
    if any(folder.glob(f"{DATABASE}*")) and not replace:
        raise RagError(msg("there is a Chroma in {path} already", path=folder), msg("replace it with `rag-app restore --yes`"))
    folder.mkdir(parents=True, exist_ok=True)
    # Beside it first, so that what was there stays if the copy fails.
    new = Path(tempfile.mkdtemp(prefix=f"{folder.name}.restored-", dir=folder.parent))
    chroma_files.copy(source, new)
    with all_locks(folder), kept.alone(folder, RESTORING):
        chroma_files.remove(folder)
        for path in list(new.iterdir()):
            path.rename(folder / path.name)
    new.rmdir()


def _check_embedded(settings: Settings) -> None:
    if settings.chroma_url:
        raise RagError(
            msg("{url} is a server, which keeps its own files", url=settings.chroma_url),
            msg("use the tools of its machine; `rag-app reindex` makes a collection anew from its files"),
        )
