"""Labelling: candidates of a question one by one, and drafted questions to accept or drop, by mouse or keyboard."""

import hashlib
from pathlib import Path

import streamlit as st

from rag_app.evaluation.drafts import Drafts
from rag_app.labels.labels import Labels
from rag_app.page import resources, states
from rag_app.page.citations import passage_html
from rag_app.page.hostile import html, plain, visible
from rag_app.page.say import t
from rag_app.page.visit import visit
from rag_app.settings import Settings
from rag_app.types import Candidate, Search, after_rerank
from rag_app.words import msg, nmsg

# How many of the first before and after reranking are judged: a pool, as in TREC.
DEPTH = 10
# Grade: its name and its key.
GRADES = {2: (msg("Relevant"), "y"), 1: (msg("Partly relevant"), "p"), 0: (msg("Not relevant"), "n")}


def label(settings: Settings) -> None:
    """Offer the candidates of a question one by one, to judge."""
    labels = Labels(settings.eval_path)
    questions = {row["_id"]: row for row in labels.questions()}
    judged = {row["query"] for row in labels.judgements()}
    nothing = {name for name, row in questions.items() if "answer" in row and row["answer"] is None}
    open_ones = [name for name in questions if name not in judged and name not in nothing]
    st.caption(
        plain(
            t(
                "Judged questions: {judged} of {n}. Marked as unanswerable: {nothing}. Saved to {file}.",
                judged=len(judged & set(questions)),
                n=len(questions),
                nothing=len(nothing),
                file=str(labels.qrels),
            )
        )
    )
    order = [*open_ones, *(name for name in questions if name not in open_ones and name not in nothing)]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        known = st.selectbox(
            t("Question"),
            [questions[name]["text"] for name in order],
            format_func=visible,
            index=None,
            accept_new_options=True,
            key="label_question",
            placeholder=t("Choose a question, or type a new one"),
        )
    if not known or not known.strip():
        states.note(msg("Questions without a judgement come first."), "info")
        return
    question = known.strip()
    how = settings.collection, resources.revision(settings.collection), settings.model_dump_json()
    search = find(*how, question)
    if search.rerank.status == "fallback":
        # The next one is asked again, when the reranker may be back.
        find.clear(*how, question)
    pool = pooled(search)
    if not pool:
        states.note(msg("Nothing was found."), "search_off")
        return
    grades = {c.id: labels.grade(question, c) for c in pool}
    done = sum(grade is not None for grade in grades.values())
    st.progress(done / len(pool), t("{done} of {n} candidates judged", done=done, n=len(pool)))
    at = _place(question, [c.id for c in pool], grades)
    if at is None:
        states.note(msg("All candidates are judged."), "task_alt")
        at = 0
    shown = pool[at]
    grade = grades[shown.id]
    said = t(GRADES[grade][0]) if grade in GRADES else t("not judged")
    st.html(html('<p class="quiet">{n} · {said}</p>', n=t("candidate {n} of {of}", n=at + 1, of=len(pool)), said=said))
    with st.container(border=True):
        st.html(passage_html(shown, shown.text, settings.collection))
    with st.container(horizontal=True):
        for value, (name, key) in GRADES.items():
            st.button(
                t(name),
                key=f"grade-{value}",
                shortcut=key,
                type="primary" if grade == value else "secondary",
                on_click=_judge,
                args=(labels, question, shown, value, at),
            )
        st.button(
            t("Undo"),
            key="take_back",
            shortcut="t",
            disabled=grade is None,
            on_click=_judge,
            args=(labels, question, shown, None, at),
        )
        st.button(t("Previous"), key="go_before", shortcut="Left", disabled=at == 0, on_click=_go, args=(question, at - 1))
        st.button(
            t("Next"), key="go_next", shortcut="Right", disabled=at == len(pool) - 1, on_click=_go, args=(question, at + 1)
        )
    st.caption(
        t(
            "The first {n} before and after reranking, shuffled, so rank doesn't bias you. Candidates without a judgement "
            "count as not relevant.",
            n=DEPTH,
        )
    )


@st.cache_data(show_spinner=False, max_entries=200)
def find(collection: str, revision: str, settings: str, question: str) -> Search:
    """Return the search of a question; `revision` is the collection's state, `settings` what else it depends on."""
    return resources.pipeline(collection).search(question)


def pooled(search: Search) -> list[Candidate]:
    """Return the first DEPTH candidates of both orders, shuffled by a fixed hash."""
    first = {c.id: c for c in (*search.candidates[:DEPTH], *sorted(search.candidates, key=after_rerank)[:DEPTH])}
    return sorted(first.values(), key=lambda c: hashlib.sha256(f"{search.question}{c.id}".encode()).digest())


def _place(question: str, ids: list[str], grades: dict[str, int | None]) -> int | None:
    """Return which candidate is shown: the one chosen, else the first without a judgement."""
    gone_to = visit().labelled
    if gone_to and gone_to[0] == question and gone_to[1] < len(ids):
        return gone_to[1]
    return next((i for i, name in enumerate(ids) if grades[name] is None), None)


def _judge(labels: Labels, question: str, candidate: Candidate, grade: int | None, at: int) -> None:
    if states.stored(lambda: labels.judge(question, candidate, grade)):
        # On to the next without a judgement; one that was undone stays in view.
        visit().labelled = (question, at) if grade is None else None


def _go(question: str, at: int) -> None:
    visit().labelled = (question, at)


def drafts(settings: Settings) -> None:
    """Offer drafted questions one by one, to accept as they are or edited, or to drop."""
    kept = Drafts(Path(settings.eval_path))
    waiting = kept.waiting()
    if not waiting:
        states.show(
            msg("No drafts are waiting"),
            msg("The chat model can draft questions from documents; they count once you accept them."),
            msg("Run `rag-app questions DOCS` (names as in `rag-app documents`)."),
        )
        return
    st.caption(
        t(
            nmsg(
                "{n} draft is waiting. It counts once you accept it.",
                "{n} drafts are waiting. They count once you accept them.",
                len(waiting),
            )
        )
    )
    draft = waiting[0]
    key = hashlib.sha256(draft.model_dump_json().encode()).hexdigest()[:12]
    st.text_input(t("Question"), draft.question, key=f"question-{key}")
    st.text_input(t("Answer"), draft.answer, key=f"answer-{key}")
    with st.container(border=True):
        st.html(
            html(
                '<p class="quiet"><bdi>{document}</bdi></p><div class="passage" dir="auto">{quote}</div>',
                document=draft.document,
                quote=draft.quote,
            )
        )

    def accept() -> None:
        # Read at the click, which may itself have ended the typing.
        question, answer = (str(st.session_state[f"{name}-{key}"]) for name in ("question", "answer"))
        states.stored(lambda: kept.accept(draft, question, answer))

    def drop() -> None:
        states.stored(lambda: kept.drop(draft))

    with st.container(horizontal=True):
        st.button(t("Accept"), key="accept", type="primary", shortcut="a", on_click=accept)
        st.button(t("Drop"), key="drop", shortcut="d", on_click=drop)
