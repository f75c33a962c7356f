"""The query path: retrieve → rerank → answer."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any, Literal, Protocol, Self

from rag_app import builtin, language, prompt
from rag_app.endpoints.chat import Answering
from rag_app.endpoints.embeddings import Vectors
from rag_app.endpoints.endpoint import Endpoint
from rag_app.endpoints.opening import open_chat, open_embeddings, open_reranker
from rag_app.errors import RagError, SettingsError
from rag_app.plan import SCORES, OnPart, carried_out, limit_of
from rag_app.retrieval import Retriever, with_neighbours
from rag_app.retrieval import retrievers as by_settings
from rag_app.settings import Settings
from rag_app.store.opening import open_store
from rag_app.store.protocol import Store
from rag_app.types import (
    WHERE,
    Answer,
    Ask,
    AskMs,
    Candidate,
    FirstStage,
    Limit,
    PlanKind,
    Receipt,
    Rewrite,
    Search,
    SearchMs,
    Side,
    Tokens,
    after_rerank,
)
from rag_app.words import Message, msg

OnStage = Callable[[str, float], None]
MAX_REWRITTEN = 400


class Embedder(Protocol):
    """Embeds a question. `recipe` is what vectors depend on: the collection must have been made by the same."""

    @property
    def recipe(self) -> dict[str, str]: ...

    def question(self, text: str) -> tuple[Vectors, int | None]:
        """Return a question's vector, shape (dim,), and the tokens it took if the endpoint says."""
        ...

    def close(self) -> None: ...


class Reranks(Protocol):
    """Reranks candidates; what goes wrong stands in the receipt."""

    endpoint: Endpoint

    def rerank(self, question: str, candidates: Sequence[Candidate]) -> tuple[list[Candidate], Receipt]:
        """Return the candidates in the order given, each with its rerank rank and score where it got one."""
        ...

    def skipped(self, reason: str) -> Receipt:
        """Return the receipt of a rerank that was not asked for."""
        ...

    def close(self) -> None: ...


class Answers(Protocol):
    """Answers from passages."""

    def answer(
        self, messages: Sequence[prompt.Message], passages: Sequence[Candidate], shorter: Iterable[prompt.Shorter] = ()
    ) -> Answering:
        """Return the answer as a stream; its markers count the passages. `shorter` is for too long a prompt."""
        ...

    def reply(self, messages: Sequence[prompt.Message]) -> tuple[str, Answering]:
        """Return what the model says to messages, and the time and tokens that it took."""
        ...

    def close(self) -> None: ...


class Pipeline:
    """The stages, handed in, and how many candidates and passages go from one to the next, by the settings.

    A reranker and a chat client may be handed in as functions that make them: who only searches needs no chat model.
    """

    def __init__(
        self,
        store: Store,
        embeddings: Embedder,
        reranker: Reranks | Callable[[], Reranks],
        chat: Answers | Callable[[], Answers],
        *,
        settings: Settings,
        retrievers: Mapping[FirstStage, Retriever] | None = None,
    ) -> None:
        """`retrievers` finds candidates, by its first unless a question asks for another; the settings name them if not given.

        RecipeError if the store was made by other embeddings.
        """
        self.settings = settings
        self.store = store
        self.embeddings = embeddings
        self.retrievers = retrievers or by_settings(store, settings)
        self._reranker = reranker
        self._chat = chat
        # Questions that come at once share one client, which is closed.
        self._making = threading.Lock()
        # The values of fields that documents have, and the revision of the store that had them.
        self._fields: tuple[str, dict[str, dict[str, int]]] = ("", {})
        store.require(embeddings.recipe)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Return the pipeline that the settings mean. EmptyCollectionError if nothing was ingested yet."""
        with ExitStack() as opened:
            store = opened.enter_context(open_store(settings))
            embeddings = opened.enter_context(closing(open_embeddings(settings)))
            pipeline = cls(store, embeddings, lambda: open_reranker(settings), lambda: open_chat(settings), settings=settings)
            # From here on the pipeline closes them.
            opened.pop_all()
        return pipeline

    def close(self) -> None:
        """Close the store and the connections of every stage that was used."""
        for part in (*self.retrievers.values(), self.store, self.embeddings, self._reranker, self._chat):
            if not callable(part):
                part.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def ask(self, question: str, **options: Any) -> Ask:
        """Return a question's answer with its search; options as of `search`. RagError if no answer came."""
        found = self.search(question, **options)
        answering = self.answer(found)
        for _ in answering:
            pass
        return asked(found, answering)

    def search(
        self,
        question: str,
        *,
        rerank: bool = True,
        n_candidates: int | None = None,
        n_passages: int | None = None,
        only: Sequence[str] = (),
        first_stage: FirstStage | None = None,
        plan: PlanKind | Literal["none"] | None = None,
        limit: bool | None = None,
        on_stage: OnStage = lambda stage, ms: None,
        on_part: OnPart = lambda part: None,
    ) -> Search:
        """Return the candidates for a question, reranked, with the passages chosen; `on_stage` hears each stage end.

        `only` names what to look in, as in `Search`; `first_stage` finds the candidates in place of the one that the settings
        mean, and `plan` how the question is sought, each of whose parts `on_part` hears. RagError if the question cannot be
        embedded or planned, or the store not read; a failed rerank stands in the receipt instead. `limit` has the chat model
        read a filter out of the question, if `only` names no values of fields.
        """
        # Bytes of a command line that are no text cannot be sent.
        question = question.encode("utf-8", "replace").decode()
        if not question.strip():
            raise RagError(msg("the question is empty"), msg("type a question"))
        n_candidates = n_candidates or self.settings.n_candidates
        n_passages = n_passages or self.settings.n_passages
        if n_passages > n_candidates:
            raise SettingsError(
                msg(
                    "{passages} passages cannot be chosen from {candidates} candidates",
                    passages=n_passages,
                    candidates=n_candidates,
                ),
                msg("ask for more candidates, or fewer passages"),
            )
        watch = Stopwatch(on_stage)
        retriever = self._retriever(first_stage)
        read = self._limit(question, only) if (self.settings.limit_by_question if limit is None else limit) else None
        only = (*only, *(read.names if read else ()))
        tokens: list[int | None] = []

        def seek(text: str) -> list[Candidate]:
            watch.resume()
            vector, n_tokens = self.embeddings.question(text)
            tokens.append(n_tokens)
            watch.lap("embed")
            found = retriever.retrieve(text, vector, n_candidates, only)
            watch.lap("retrieve")
            return found

        kind, made = plan or self.settings.plan, None
        if kind == "none":
            candidates = seek(question)
        else:
            self._require_planner()
            candidates, made = carried_out(kind, question, self.chat.reply, seek, n_candidates, n_passages, on_part)
        # Another model may have rebuilt the collection since this pipeline was opened.
        self.store.require(self.embeddings.recipe)
        if not rerank:
            receipt = Receipt(status="skipped", model=self.settings.rerank_model, reason=msg("switched off for this question"))
        elif not candidates:
            receipt = self.reranker.skipped(msg("nothing was found"))
        elif reason := unsuited(self.reranker.endpoint, question, candidates):
            receipt = self.reranker.skipped(reason)
        else:
            candidates, receipt = self.reranker.rerank(question, candidates)
        # To find out that it is to be skipped is no reranking.
        watch.lap("rerank", 0.0 if receipt.status == "skipped" else None)
        return Search(
            question=question,
            candidates=self._chosen(candidates, n_passages),
            retrieval_score=SCORES[made.kind] if made and made.parts else retriever.score,
            rerank=receipt,
            ms=SearchMs(**watch.laps, total=watch.total),
            tokens=Tokens(embed=None if None in tokens else sum(filter(None, tokens)), rerank=receipt.tokens),
            only=tuple(only),
            limit=read,
            plan=made,
        )

    def _limit(self, question: str, only: Sequence[str]) -> Limit | None:
        """Return the filter that the chat model reads out of a question; None where one is set, or there are no fields."""
        self._require_planner()
        if any(name.startswith(WHERE) for name in only):
            return None
        revision = self.store.revision
        if self._fields[0] != revision:
            self._fields = revision, self.store.listing().fields
        return limit_of(question, self._fields[1], self.chat.reply) if any(self._fields[1].values()) else None

    def _require_planner(self) -> None:
        """SettingsError if the chat model is the built-in one, which plans nothing."""
        if not self.rewrites:
            raise SettingsError(
                msg("the built-in chat model only quotes and cannot plan a question"),
                msg("set RAG_CHAT_URL and RAG_CHAT_MODEL, or RAG_PLAN=none and RAG_LIMIT_BY_QUESTION=false"),
            )

    def _retriever(self, first_stage: FirstStage | None) -> Retriever:
        if first_stage is None:
            return next(iter(self.retrievers.values()))
        if first_stage not in self.retrievers:
            raise SettingsError(
                msg("there is no lexical index to find candidates in"), msg("set RAG_LEXICAL=true, or ask for the dense ones")
            )
        return self.retrievers[first_stage]

    def recut(self, search: Search, n_passages: int) -> Search:
        """Return a search with another number of passages, from the ranking that it has: no endpoint is asked."""
        return search.model_copy(update={"candidates": self._chosen(search.candidates, n_passages)})

    def _chosen(self, candidates: Sequence[Candidate], n_passages: int) -> tuple[Candidate, ...]:
        chosen = choose(candidates, n_passages, self.settings.rerank_min_score)
        return with_neighbours(self.store, chosen, self.settings.n_neighbours) if self.settings.n_neighbours else chosen

    def answer(self, search: Search) -> Answering:
        """Return the answer from a search's passages, as a stream to iterate; without passages nobody is asked."""
        if not search.passages:
            return nothing_relevant(search, self.settings.rerank_min_score)
        return self.reply(search.question, search.passages)

    def answer_without_rerank(self, search: Search) -> Answering:
        """Return the answer from the passages that retrieval alone would have chosen; its markers count those."""
        return self.reply(search.question, search.passages_without_rerank)

    def reply(self, question: str, passages: Sequence[Candidate]) -> Answering:
        """Return the answer to a question from passages, as a stream to iterate."""
        return self.chat.answer(prompt.messages(question, passages), passages, prompt.shorter(question, passages))

    @property
    def rewrites(self) -> bool:
        """Whether the chat model can rewrite a follow-up: the built-in one only quotes."""
        return self.settings.endpoint("CHAT").model != builtin.CHAT_MODEL

    def standalone(self, question: str, history: Sequence[tuple[str, str]]) -> tuple[str, Rewrite]:
        """Return a follow-up as a question that stands alone, by the chat model, and what that took.

        `history` is (question, answer) of earlier turns, oldest first. EndpointError if the chat model cannot be asked.
        """
        reply, answering = self.chat.reply(prompt.rewriting(question, history))
        prompt_tokens, answer_tokens = answering.tokens
        alone = " ".join(reply.split())
        # A model that goes on to answer has not rewritten: then the question stays as it was typed.
        if not alone or len(alone) > MAX_REWRITTEN + 2 * len(question):
            alone = question
        return alone, Rewrite(typed=question, ms=answering.ms, prompt_tokens=prompt_tokens, answer_tokens=answer_tokens)

    @property
    def reranker(self) -> Reranks:
        with self._making:
            if callable(self._reranker):
                self._reranker = self._reranker()
        return self._reranker

    @property
    def chat(self) -> Answers:
        with self._making:
            if callable(self._chat):
                self._chat = self._chat()
        return self._chat


def choose(candidates: Sequence[Candidate], n: int, min_score: float | None = None) -> tuple[Candidate, ...]:
    """Mark the top n after reranking as passages, and the top n of retrieval as passages without reranking.

    `min_score` keeps out what the reranker scored below it; it says nothing of candidates without a rerank score.
    """
    eligible = [c for c in candidates if min_score is None or c.rerank is None or c.rerank.score >= min_score]
    chosen = {candidate.id for candidate in sorted(eligible, key=after_rerank)[:n]}

    def marked(c: Candidate) -> Candidate:
        passage, without = c.id in chosen, c.retrieval.rank <= n
        # Most are neither, which is what they come as.
        if (passage, without, c.context) == (c.passage, c.passage_without_rerank, ""):
            return c
        return c.model_copy(update={"passage": passage, "passage_without_rerank": without, "context": ""})

    return tuple(map(marked, candidates))


def nothing_relevant(search: Search, min_score: float | None) -> Answering:
    """Return the answer to a question that found nothing, or nothing that the reranker scored high enough."""
    best = search.reranked[0].rerank if search.candidates else None
    text = msg("Nothing was found: there is no content in the documents searched.")
    if best:
        text = msg(
            "Nothing relevant enough was found: the best of {n} candidates scored {score:.3f}, and RAG_RERANK_MIN_SCORE asks "
            "for {least}.",
            n=len(search.candidates),
            score=best.score,
            least=min_score,
        )
    return Answering([text], Answer(text=text, citations=(), finish="stop", model="none"))


def asked(search: Search, answering: Answering) -> Ask:
    """Return a search joined with its answer, once the answer has been read to its end."""
    if answering.answer is None:
        raise ValueError("the answer has not been read to its end")
    before = search.ms.total + (search.rewrite.ms if search.rewrite else 0.0)
    first = None if answering.first_token_ms is None else before + answering.first_token_ms
    prompt_tokens, answer_tokens = answering.tokens
    fields = {name: getattr(search, name) for name in Search.model_fields}
    fields["ms"] = AskMs(**{**search.ms.model_dump(), "total": before + answering.ms}, first_token=first, chat=answering.ms)
    fields["tokens"] = search.tokens.model_copy(update={"chat_prompt": prompt_tokens, "chat_answer": answer_tokens})
    return Ask(**fields, answer=answering.answer)


def with_side(ask: Ask, answering: Answering) -> Ask:
    """Return an answered search with the answer without reranking beside it, once that has been read to its end."""
    if answering.answer is None:
        raise ValueError("the answer has not been read to its end")
    prompt_tokens, answer_tokens = answering.tokens
    side = Side(answer=answering.answer, ms=answering.ms, prompt_tokens=prompt_tokens, answer_tokens=answer_tokens)
    return ask.model_copy(update={"without_rerank": side})


def unsuited(endpoint: Endpoint, question: str, candidates: Sequence[Candidate]) -> Message | None:
    """Return why the built-in cross-encoder would do harm here; None where it fits.

    It was trained on English, and makes a German or Chinese order worse that was found by vectors and words.
    """
    if endpoint.model != builtin.CROSS_ENCODER:
        return None
    reads = msg("{model} reads English only: set RAG_RERANK_MODEL to another", model=endpoint.model)
    if (spoken := language.detect(question)) not in language.MAYBE_ENGLISH:
        return msg("the question is in {language}, and {reads}", language=language.name(spoken), reads=reads)
    foreign = [candidate.language for candidate in candidates if candidate.language not in language.MAYBE_ENGLISH]
    if 2 * len(foreign) > len(candidates):
        most = language.name(Counter(foreign).most_common(1)[0][0])
        return msg("most candidates are in {language}, and {reads}", language=most, reads=reads)
    return None


class Stopwatch:
    """Milliseconds per stage, told to a listener as each ends."""

    def __init__(self, on_stage: OnStage) -> None:
        self.on_stage = on_stage
        self.laps: dict[str, float] = {}
        self.start = self.last = time.perf_counter()

    def lap(self, stage: str, ms: float | None = None) -> None:
        """End a stage, which took the time since the last one ended, or so many milliseconds; what comes again adds up."""
        now = time.perf_counter()
        self.laps[stage] = self.laps.get(stage, 0.0) + ((now - self.last) * 1000 if ms is None else ms)
        self.last = now
        self.on_stage(stage, self.laps[stage])

    def resume(self) -> None:
        """Begin a stage now: what went before is none of it."""
        self.last = time.perf_counter()

    @property
    def total(self) -> float:
        return (time.perf_counter() - self.start) * 1000
