"""Records of a corpus that is cut already, into a collection: one chunk a record, under the record's id."""

import logging
import time
from collections.abc import Callable, Sequence

from ingest.lock import collection_lock
from rag_app import language
from rag_app.endpoints.embeddings import Embeddings
from rag_app.errors import RagError
from rag_app.settings import Settings
from rag_app.store.opening import open_store
from rag_app.store.protocol import Store
from rag_app.store.stored import Version, Written
from rag_app.types import Chunk
from rag_app.words import msg

log = logging.getLogger(__name__)

# Records that are embedded before they are stored: what a kill can cost.
AT_ONCE = 256


def store_records(
    settings: Settings,
    records: Sequence[tuple[str, str, str]],
    digest: str,
    embeddings: Embeddings,
    progress: Callable[[int, int], None],
) -> set[str]:
    """Store the records (id, title, text) that are not stored yet; return the ids that are.

    Empty ones are left out, as are those that the endpoint refuses: nothing finds them. RagError if the endpoint or Chroma
    fails; what was stored by then stays.
    """
    wanted = [record for record in records if record[2].strip()]
    with open_store(settings, create=True) as store:
        # Who only asks does not keep others from asking.
        if len(store.documents()) < len(wanted):
            with collection_lock(store):
                stored = set(store.documents())
                _embed([record for record in wanted if record[0] not in stored], store, digest, embeddings, progress)
        stored = set(store.documents())
    if not stored:
        raise RagError(
            msg("no record of the corpus could be stored in {collection}", collection=settings.collection),
            msg("run `rag-app doctor`"),
        )
    return stored


def _embed(
    missing: Sequence[tuple[str, str, str]],
    store: Store,
    digest: str,
    embeddings: Embeddings,
    progress: Callable[[int, int], None],
) -> None:
    for start in range(0, len(missing), AT_ONCE):
        progress(start, len(missing))
        part = [_chunk(*record) for record in missing[start : start + AT_ONCE]]
        at = 0
        for embedded in embeddings.passages((chunk.text_in_context for chunk in part), _patiently):
            batch = part[at : at + len(embedded.vectors)]
            at += len(batch)
            rows = [i for i in range(len(batch)) if i not in embedded.refused]
            if rows:
                store.create({**embeddings.recipe, "corpus": digest}, embedded.vectors.shape[1])
                version = Version("", digest, 1, time.time())
                store.put([Written(batch[i].document, version, [batch[i]], embedded.vectors[i : i + 1]) for i in rows])


def _patiently(seconds: float, reason: str) -> None:
    log.warning(msg("waiting {seconds:.0f} s for the embeddings endpoint: {reason}", seconds=seconds, reason=reason))


def _chunk(identity: str, title: str, text: str) -> Chunk:
    return Chunk(
        id=identity,
        document=identity,
        title=title,
        headings=(),
        page=None,
        position=0,
        start=0,
        end=len(text),
        language=language.detect(text),
        text=text,
    )
