"""The bench: a set of questions, the collection that it is asked of, and the pipeline that remembers."""

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

from dotenv import dotenv_values

from rag_app.endpoints.chat import Chat
from rag_app.endpoints.embeddings import Embeddings
from rag_app.endpoints.endpoint import address
from rag_app.endpoints.opening import open_embeddings
from rag_app.errors import RagError, SettingsError
from rag_app.evaluation import runs, trec
from rag_app.evaluation.answers import AnswersReport, Judge, answer_all
from rag_app.evaluation.memory import Memory, RememberedChat, RememberingPipeline
from rag_app.evaluation.report import Report, described, report
from rag_app.evaluation.running import Asked, OnQuestion, ask_all, silent
from rag_app.evaluation.sets import EvalSet, from_labels, is_beir, name_of, read_beir
from rag_app.labels.labels import Labels
from rag_app.settings import PREFIX, Settings, load_settings
from rag_app.store.opening import open_store
from rag_app.store.protocol import Store
from rag_app.words import msg

# Stores records (id, title, text) in the collection of the settings, with a digest of their content; returns the ids stored.
StoreRecords = Callable[[Settings, Sequence[tuple[str, str, str]], str, Embeddings, Callable[[int, int], None]], set[str]]
# Ingests the files of a collection with other settings into a new collection; returns its name.
IngestWithSettings = Callable[[Store, Settings, Embeddings, Callable[[int, int], None]], str]


class Bench:
    """Everything that one run needs, to be closed after it; a folder in BEIR layout is ingested when the bench is made."""

    def __init__(
        self,
        settings: Settings,
        folder: Path | None,
        store_records: StoreRecords,
        *,
        fresh: bool = False,
        at_once: int | None = None,
        qrels: Path | None = None,
        sample: int | None = None,
        on_record: OnQuestion = silent,
    ) -> None:
        self.settings, evalset = prepared(settings, folder, store_records, lambda done, of: on_record(done, of, 0))
        self.judged_by = {}
        if qrels:
            judgements = trec.read_qrels(qrels)
            evalset = evalset.judged_by(judgements)
            digest = hashlib.sha256(json.dumps(judgements, sort_keys=True).encode()).hexdigest()[:8]
            self.judged_by = {"judgements": f"{qrels.name} ({digest})"}
        self.evalset = evalset.sample(sample)
        self.sample = sample if len(self.evalset.questions) < len(evalset.questions) else None
        # The built-in models share this machine: two questions at once would each take twice as long.
        self.at_once = at_once or (1 if settings.endpoint("RERANK").builtin else 4)
        self.judge: Judge | None = None
        with ExitStack() as opened:
            self.memory = opened.enter_context(Memory(settings.runs_path, fresh=fresh))
            self.pipeline = opened.enter_context(closing(RememberingPipeline(self.settings, self.memory)))
            self.state = evalset.state or self.pipeline.store.revision
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the pipeline, its memory and the judge's connections."""
        self._opened.close()

    def ask(self, n_candidates: int, on_question: OnQuestion = silent, *, rerank: bool = True) -> list[Asked]:
        """Return every question with its search. RagError if the collection was changed meanwhile."""
        asked = ask_all(self.pipeline, self.evalset.questions, n_candidates, self.at_once, on_question, rerank=rerank)
        if self.pipeline.store.revision != self.state:
            raise RagError(
                msg("collection {collection} changed during the run", collection=self.settings.collection),
                msg("run it again"),
            )
        return asked

    def answers(self, asked: Sequence[Asked], on_question: OnQuestion = silent) -> AnswersReport:
        """Return what the answers are worth, judged by RAG_JUDGE_MODEL too if there is one."""
        endpoint = self.settings.judge
        if endpoint and not self.judge:
            chat = RememberedChat(Chat(endpoint), self.pipeline.stages)
            self.judge = self._opened.enter_context(closing(Judge(endpoint.model, chat)))
        return answer_all(self.pipeline, asked, self.at_once, self.judge, on_question)

    def report(
        self, asked: Sequence[Asked], names: Sequence[str], n_candidates: int, answers: AnswersReport | None = None
    ) -> Report:
        """Return the report on what was asked."""
        return report(
            self.evalset,
            asked,
            self.settings,
            names,
            n_candidates,
            self.at_once,
            made=described(self.settings, self.pipeline.store.recipe) | self.judged_by,
            sample=self.sample,
            answers=answers,
        )

    def keep(self, report: Report, asked: Sequence[Asked]) -> Path:
        """Keep a report and the searches that it was made from; return its file. RagError if they cannot be written."""
        runs.keep_searches(self.memory, report, {a.question.id: a.search for a in asked if a.search})
        return runs.keep(self.settings.runs_path, report)


def collection_of(name: str, digest: str, embeddings: Embeddings) -> str:
    """Return the name of the collection for a corpus with this content (`digest`) and these embeddings."""
    recipe = sorted(embeddings.recipe.items())
    slug = re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-")[:80] or "set"
    return f"eval-{slug}-{hashlib.sha256(f'{digest}{recipe}'.encode()).hexdigest()[:8]}"


def prepared(
    settings: Settings,
    folder: Path | None,
    store_records: StoreRecords,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[Settings, EvalSet]:
    """Return a set of questions, and the settings with the collection that it is asked of.

    Without a folder, or with one of labelled questions, that is the collection in the settings; a folder in BEIR layout is
    stored by `store_records` in one of its own first. RagError if there are no questions.
    """
    folder = folder or settings.eval_path
    if not is_beir(folder):
        return settings, labelled(settings, folder)
    beir = read_beir(folder)
    with closing(open_embeddings(settings)) as embeddings:
        own = settings.model_copy(update={"collection": collection_of(beir.name, beir.digest, embeddings)})
        stored = store_records(own, beir.records, beir.digest, embeddings, progress)
    return own, beir.questions.stored(stored, len(beir.records) - len(stored))


def labelled(settings: Settings, folder: Path) -> EvalSet:
    """Return labelled questions, judged by the chunks of the collection in the settings. RagError if there are none."""
    if not (folder / "queries.jsonl").is_file() or not (folder / "qrels.jsonl").is_file():
        raise RagError(
            msg("{folder} is not an evaluation set", folder=folder),
            msg(
                "name a folder with queries.jsonl and qrels.jsonl (labelled questions), "
                "or with corpus.jsonl, queries.jsonl and qrels.tsv (BEIR)"
            ),
        )
    with open_store(settings) as store:
        return from_labels(Labels(folder), store, name_of(folder))


def only_questions(settings: Settings, folder: Path | None) -> EvalSet:
    """Return a set's questions without ingesting anything."""
    if folder and is_beir(folder):
        return read_beir(folder).questions
    return labelled(settings, folder or settings.eval_path)


def system(
    spec: str,
    settings: Settings,
    folder: Path | None,
    ingest_with_settings: IngestWithSettings,
    on_file: OnQuestion = silent,
) -> Settings:
    """Return the settings that a system means: now, none, NAME=VALUE[,NAME=VALUE…] or the path of a .env file.

    Other chunk settings, or another embedding model, get a collection of their own, ingested from the files of the one that
    the settings name. SettingsError if the text means no system.
    """
    if spec in ("now", "none"):
        return settings
    changed = _changes(spec)
    own = load_settings(**{"collection": settings.collection, **changed})
    remakes = sorted(name for name in changed if name.startswith(("chunk_", "embedding_")))
    chunks = [name for name in remakes if name.startswith("chunk_")]
    if chunks and folder and is_beir(folder):
        raise SettingsError(
            msg("{name} has no effect on {folder}, where each record is a chunk", name=chunks[0], folder=folder),
            msg("leave it out"),
        )
    if chunks and "collection" in changed:
        raise SettingsError(
            msg("{name} has no effect on the existing collection {collection}", name=chunks[0], collection=own.collection),
            msg("leave one of them out"),
        )
    # In BEIR layout there is a collection for each embedding model.
    if not remakes or "collection" in changed or (folder and is_beir(folder)):
        return own
    with open_store(own) as old, closing(open_embeddings(own)) as embeddings:
        name = ingest_with_settings(old, own, embeddings, lambda done, of: on_file(done, of, 0))
    return own.model_copy(update={"collection": name})


def shown(spec: str) -> str:
    """Return a system without its secrets: values of keys, and of parameters, which may hold one, become …, URLs addresses."""
    if not _PAIR.match(spec) or _is_file(spec):
        return spec
    pairs = [part.partition("=") for part in _BETWEEN.split(spec)]
    return ",".join(
        f"{name}={'…' if 'key' in name.lower() or 'parameters' in name.lower() else address(value)}" for name, _, value in pairs
    )


_PAIR = re.compile(r"\s*\w+\s*=")
# A comma before the next NAME=: values may hold commas.
_BETWEEN = re.compile(r",(?=\s*\w+\s*=)")


def _is_file(spec: str) -> bool:
    try:
        return Path(spec).is_file()
    except (OSError, ValueError):
        return False


def _changes(spec: str) -> dict[str, Any]:
    """Return the settings that a system names, without RAG_, with values as the settings take them."""
    if _is_file(spec):
        try:
            found = dotenv_values(spec, encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                msg("{path} cannot be read ({reason})", path=spec, reason=error), msg("save it as UTF-8 text")
            ) from None
        # Other programs have theirs there too.
        values = {name: value or "" for name, value in found.items() if name.upper().startswith(PREFIX)}
    elif _PAIR.match(spec):
        values = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in _BETWEEN.split(spec))}
    else:
        raise SettingsError(
            msg("{system!r} is not a system", system=spec),
            msg("write now, none, NAME=VALUE such as rerank_model=…, or name a .env file"),
        )
    changed: dict[str, Any] = {}
    for name, value in values.items():
        field = name.lower().removeprefix(PREFIX.lower())
        if field not in Settings.model_fields:
            near = difflib.get_close_matches(field, Settings.model_fields, 1)
            raise SettingsError(
                msg("{name} is not a setting", name=field),
                msg("did you mean {name}?", name=near[0]) if near else msg("see .env.example for all settings"),
            )
        # Empty is the default, as in .env.
        changed[field] = value if value else Settings.model_fields[field].default
        if field == "rerank_parameters" and value:
            try:
                changed[field] = json.loads(value)
            except ValueError:
                raise SettingsError(
                    msg("{name} is not a JSON object", name=field),
                    msg("write it like {example}", example='{"return_documents": false}'),
                ) from None
    return changed
