"""What led to an answer: the movement, the lists, the passages and the full prompt, every candidate, the details."""

import streamlit as st

from rag_app import prompt
from rag_app.errors import RagError
from rag_app.labels.labels import GRADE, Labels
from rag_app.page import movement, states
from rag_app.page.citations import passage_html
from rag_app.page.hostile import html, joined, plain
from rag_app.page.say import t, w
from rag_app.page.visit import Turn
from rag_app.pipeline import Pipeline
from rag_app.price import cost
from rag_app.types import Ask, Candidate, Search, arrow, seconds
from rag_app.words import msg, nmsg

VIEWS = (msg("Movement"), msg("Lists"), msg("Passages sent"), msg("All candidates"), msg("Details"))


def receipt(search: Search, pipeline: Pipeline) -> str:
    """Return what reranking did in one sentence, and its receipt; a failure is loud."""
    r = search.rerank
    price = cost(search, pipeline.settings)
    tokens = [nmsg("{n:,} token", "{n:,} tokens", r.tokens)] if r.tokens else []
    # Where it failed or was skipped, the effect says so already.
    facts = [*(r.facts if r.status in ("applied", "partial") else ()), *tokens, *(price.said if price else ())]
    items = joined([html("<li><bdi>{fact}</bdi></li>", fact=t(fact)) for fact in facts])
    reason = html("<p><bdi>{reason}</bdi></p>", reason=t(r.reason)) if r.reason else ""
    warnings = joined([html('<p class="todo"><bdi>{warning}</bdi></p>', warning=t(warning)) for warning in r.warnings])
    return html(
        '<div class="receipt {status}"><h3>{effect}</h3><ul>{items}</ul>{reason}{warnings}</div>',
        status=r.status,
        effect=t(search.effect),
        items=items,
        reason=reason,
        warnings=warnings,
    )


def ranking(pipeline: Pipeline, search: Search, key: str) -> None:
    """Show what reranking did while nothing is answered yet, without anything to press: that would end the answer."""
    st.html(receipt(search, pipeline))
    movement_of(search, set(), key)


def movement_of(search: Search, cited: set[str], key: str) -> None:
    """Show the movement with its legend."""
    st.html(movement.legend(search))
    dark = st.context.theme.type == "dark"
    st.altair_chart(movement.chart(search, cited, dark=dark), theme=None, alt=t(search.effect), key=key)


@st.fragment
def evidence(pipeline: Pipeline, turn: Turn, view: Search) -> None:
    """Show everything that led to the answer, one view at a time."""
    cited = {citation.id for citation in turn.ask.answer.citations} if turn.ask else set()
    tabs = st.tabs([t(name) for name in VIEWS], key=f"views-{turn.id}", on_change="rerun")
    opened = next((name for name, tab in zip(VIEWS, tabs, strict=True) if tab.open), VIEWS[0])
    with tabs[VIEWS.index(opened)]:
        if opened == "Movement":
            movement_of(view, cited, f"movement-{turn.id}")
        elif opened == "Lists":
            st.html(movement.lists(view, cited))
        elif opened == "Passages sent":
            _passages(pipeline, turn, view, cited)
        elif opened == "All candidates":
            for after, candidate in enumerate(view.reranked, 1):
                _candidate(pipeline, turn, view, candidate, after, opened=False)
        else:
            _details(pipeline, view)


def _passages(pipeline: Pipeline, turn: Turn, view: Search, cited: set[str]) -> None:
    """Show exactly what the chat model gets, in order, and the prompt behind a click."""
    for n, passage in enumerate(view.passages, 1):
        _candidate(pipeline, turn, view, passage, n, opened=passage.id in cited, numbered=True)
    with st.expander(t("Full prompt"), icon=":material/terminal:"):
        for message in prompt.messages(view.question, view.passages):
            st.caption(message["role"])
            st.code(message["content"], language=None, wrap_lines=True)


def _candidate(
    pipeline: Pipeline, turn: Turn, view: Search, c: Candidate, place: int, *, opened: bool, numbered: bool = False
) -> None:
    """Show a candidate with its text and the switch that judges it; closed ones cost nothing."""
    moved = arrow(c.retrieval.rank - place) if not numbered else ""
    label = " ".join(filter(None, [f"[{place}]" if numbered else str(place), moved, movement.label(c)]))
    key = f"{turn.id}-{c.id}-{'sent' if numbered else 'all'}"
    box = st.expander(plain(label), expanded=opened, key=f"box-{key}", on_change="rerun")
    if not box.open:
        return
    with box:
        if c.fate in movement.BADGES:
            st.badge(t(movement.FATES[c.fate][0]), color="blue" if c.fate == "promoted" else "orange")
        st.html(passage_html(c, c.sent if numbered else c.text, turn.choice.collection))
        labels = Labels(pipeline.settings.eval_path)
        try:
            judged = bool(labels.grade(view.question, c))
        except RagError as error:
            states.note(error.message, "error")
            return
        st.toggle(
            t("This passage is relevant"),
            value=judged,
            key=f"relevant-{key}",
            on_change=_judge,
            args=(labels, view.question, c, f"relevant-{key}"),
            help=t("Saved to {file} (evaluation labels).", file=str(labels.qrels)),
        )


def _judge(labels: Labels, question: str, candidate: Candidate, key: str) -> None:
    if not states.stored(lambda: labels.judge(question, candidate, GRADE if st.session_state[key] else None)):
        st.session_state[key] = not st.session_state[key]


def _details(pipeline: Pipeline, view: Search) -> None:
    """Show models, addresses, times and tokens of each stage."""
    settings, ask = pipeline.settings, view if isinstance(view, Ask) else None
    rows = [
        (t("embed"), settings.endpoint("EMBEDDING").model, view.ms.embed, view.tokens.embed),
        (t("retrieve"), pipeline.store.place, view.ms.retrieve, None),
        (t("rerank"), view.rerank.model, view.ms.rerank, view.tokens.rerank),
    ]
    if view.plan:
        rows.insert(0, (t("plan"), settings.endpoint("CHAT").model, view.plan.ms, view.plan.prompt_tokens))
    if view.limit:
        rows.insert(0, (t("limit"), settings.endpoint("CHAT").model, view.limit.ms, view.limit.prompt_tokens))
    if view.rewrite:
        rows.insert(0, (t("rewrite"), settings.endpoint("CHAT").model, view.rewrite.ms, view.rewrite.prompt_tokens))
    if ask:
        rows.append((t("answer"), ask.answer.model, ask.ms.chat, ask.tokens.chat_prompt))
        if ask.without_rerank:
            other = ask.without_rerank
            rows.append((t("answer without reranking"), other.answer.model, other.ms, other.prompt_tokens))
    body = [
        html(
            '<tr><th scope="row">{stage}</th><td><bdi>{model}</bdi></td><td class="number">{ms}</td>'
            '<td class="number">{tokens}</td></tr>',
            stage=stage,
            model=model,
            ms=t(seconds(ms)),
            tokens="–" if tokens is None else w().number(tokens),
        )
        for stage, model, ms, tokens in rows
    ]
    first = ask.ms.first_token if ask else None
    st.html(
        html(
            '<table class="facts"><thead><tr><th scope="col">{stage}</th><th scope="col">{model}</th>'
            '<th scope="col" class="number">{time}</th><th scope="col" class="number">{tokens}</th></tr></thead>'
            "<tbody>{rows}</tbody></table>"
            '<p class="quiet">{line}</p><p class="quiet">{first}</p>',
            stage=t("stage"),
            model=t("model or place"),
            time=t("time"),
            tokens=t("tokens in"),
            rows=joined(body),
            line=t(view.rerank.line),
            first=t("Time to first token: {time}.", time=seconds(first)) if first is not None else "",
        )
    )
