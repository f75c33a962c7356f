"""An evaluation corpus into a collection of its own: one chunk a record, under the record's id."""

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ingest.lock import alone
from rag_app import language, pipeline
from rag_app.embeddings import Embeddings
from rag_app.evaluation.sets import EvalSet, from_labels, is_beir, name_of, read_beir
from rag_app.labels import Labels
from rag_app.settings import Settings
from rag_app.store import Store, Version
from rag_app.types import Chunk, RagError

# Records that are embedded before they are stored: what a kill can cost.
AT_ONCE = 256


def collection_of(name: str, digest: str, embeddings: Embeddings) -> str:
    """Return the collection for a corpus of this content embedded so: another one for other content or another model."""
    recipe = sorted(embeddings.recipe.items())
    slug = re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-")[:80] or "set"
    return f"eval-{slug}-{hashlib.sha256(f'{digest}{recipe}'.encode()).hexdigest()[:8]}"


def prepared(
    settings: Settings, folder: Path | None, progress: Callable[[int, int], None] = lambda done, of: None
) -> tuple[Settings, EvalSet]:
    """Return a set of questions, and the settings with the collection that it is asked of.

    Without a folder, or with one of labelled questions, that is the collection in the settings; a folder in BEIR layout is
    ingested into one of its own first. RagError if there are no questions.
    """
    folder = folder or settings.eval_path
    if not is_beir(folder):
        if not (folder / "queries.jsonl").is_file() or not (folder / "qrels.jsonl").is_file():
            raise RagError(
                f"{folder} is no evaluation set: name a folder with queries.jsonl and qrels.jsonl (labelled questions), "
                "or with corpus.jsonl, queries.jsonl and qrels.tsv (BEIR)"
            )
        store = Store(settings.chroma_path, settings.chroma_url, settings.collection)
        return settings, from_labels(Labels(folder), store, name_of(folder))
    beir = read_beir(folder)
    embeddings = pipeline.embeddings(settings)
    own = settings.model_copy(update={"collection": collection_of(beir.name, beir.digest, embeddings)})
    stored = ingest(own, beir.records, beir.digest, embeddings, progress)
    return own, beir.questions.stored(stored, len(beir.records) - len(stored))


def ingest(
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
    store = Store(settings.chroma_path, settings.chroma_url, settings.collection, create=True)
    wanted = [record for record in records if record[2].strip()]
    # Who only asks does not keep others from asking.
    if len(store.documents()) < len(wanted):
        with alone(store):
            stored = set(store.documents())
            _embed([record for record in wanted if record[0] not in stored], store, digest, embeddings, progress)
    stored = set(store.documents())
    if not stored:
        raise RagError(f"no record of the corpus could be stored in {settings.collection}: look at `rag-app doctor`")
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
        for embedded in embeddings.passages(chunk.text_in_context for chunk in part):
            batch = part[at : at + len(embedded.vectors)]
            at += len(batch)
            rows = [i for i in range(len(batch)) if i not in embedded.refused]
            if rows:
                store.create({**embeddings.recipe, "corpus": digest}, embedded.vectors.shape[1])
                version = Version("", digest, 1, time.time())
                store.put([(batch[i], version) for i in rows], embedded.vectors[rows])
    if missing:
        store.touch()


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
