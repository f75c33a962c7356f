"""The bench: a set of questions, the collection that it is asked of, and the pipeline that remembers."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from dotenv import dotenv_values

from ingest import beir, sync
from rag_app.chat import Chat
from rag_app.evaluation import trec
from rag_app.evaluation.answers import AnswersReport, Judge, answer_all
from rag_app.evaluation.memory import Memory, RememberingPipeline
from rag_app.evaluation.report import Report, report
from rag_app.evaluation.running import Asked, OnQuestion, ask_all
from rag_app.evaluation.sets import EvalSet, is_beir, read_beir
from rag_app.pipeline import embeddings
from rag_app.settings import Settings, load_settings
from rag_app.store import Store
from rag_app.types import SettingsError

# Told (done, of, failed).
SILENT: OnQuestion = lambda done, of, failed: None  # noqa: E731


class Bench:
    """Everything that one run needs; a folder in BEIR layout is ingested when it is made."""

    def __init__(
        self,
        settings: Settings,
        folder: Path | None,
        *,
        fresh: bool = False,
        at_once: int | None = None,
        qrels: Path | None = None,
        sample: int | None = None,
        on_record: OnQuestion = SILENT,
    ) -> None:
        self.settings, evalset = beir.prepared(settings, folder, lambda done, of: on_record(done, of, 0))
        if qrels:
            evalset = evalset.judged_by(trec.read_qrels(qrels))
        self.sample = sample
        self.evalset = evalset.sample(sample)
        # The built-in models share this machine: two questions at once would each take twice as long.
        self.at_once = at_once or (1 if settings.endpoint("RERANK").builtin else 4)
        self.pipeline = RememberingPipeline(self.settings, Memory(settings.runs_path, fresh=fresh))

    def ask(self, n_candidates: int, on_question: OnQuestion = SILENT, *, rerank: bool = True) -> list[Asked]:
        """Return every question with its search."""
        return ask_all(self.pipeline, self.evalset.questions, n_candidates, self.at_once, on_question, rerank=rerank)

    def answers(self, asked: Sequence[Asked], on_question: OnQuestion = SILENT) -> AnswersReport:
        """Return what the answers are worth, judged by RAG_JUDGE_MODEL too if there is one."""
        endpoint = self.settings.judge
        judge = Judge(Chat(endpoint), self.pipeline) if endpoint else None
        return answer_all(self.pipeline, asked, self.at_once, judge, on_question)

    def report(
        self, asked: Sequence[Asked], names: Sequence[str], n_candidates: int, answers: AnswersReport | None = None
    ) -> Report:
        """Return the report on what was asked."""
        return report(
            self.evalset, asked, self.settings, names, n_candidates, self.at_once, sample=self.sample, answers=answers
        )


def only_questions(settings: Settings, folder: Path | None) -> EvalSet:
    """Return a set's questions without ingesting anything."""
    return read_beir(folder).questions if folder and is_beir(folder) else beir.prepared(settings, folder)[1]


def system(spec: str, settings: Settings, folder: Path | None, on_file: OnQuestion = SILENT) -> Settings:
    """Return the settings that a system means: now, none, NAME=VALUE[,NAME=VALUE…] or the path of a .env file.

    Other chunk settings, or another embedding model, get a collection of their own, ingested from the files of the one that
    the settings name. SettingsError if the text means no system.
    """
    if spec in ("now", "none"):
        return settings
    changed = _changes(spec)
    own = load_settings(**{"collection": settings.collection, **{n: v for n, v in changed.items() if v != ""}})
    remakes = any(name.startswith(("chunk_", "embedding_")) for name in changed)
    # In BEIR layout there is one chunk a record, in a collection for each embedding model.
    if not remakes or "collection" in changed or (folder and is_beir(folder)):
        return own
    old = Store(own.chroma_path, own.chroma_url, own.collection)
    name = sync.beside(old, own, embeddings(own), lambda done, of: on_file(done, of, 0))
    return own.model_copy(update={"collection": name})


def _changes(spec: str) -> dict[str, str]:
    """Return the settings that a system names, without RAG_."""
    if Path(spec).is_file():
        values = {name: value or "" for name, value in dotenv_values(spec, encoding="utf-8-sig").items()}
    elif "=" in spec:
        values = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in spec.split(","))}
    else:
        raise SettingsError(f"{spec!r} is no system: write now, none, NAME=VALUE such as rerank_model=…, or name a .env file")
    changed = {name.lower().removeprefix("rag_"): value for name, value in values.items()}
    for name in changed:
        if name not in Settings.model_fields:
            near = difflib.get_close_matches(name, Settings.model_fields, 1)
            raise SettingsError(f"{name} is not a setting: " + (f"did you mean {near[0]}?" if near else "see .env.example"))
    return changed


def documents_named(store: Store, names: Sequence[str]) -> list[str]:
    """Return the documents that names mean, as `rag-app forget` takes them."""
    return sync.chosen(store, names)
