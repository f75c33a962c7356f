"""The page: ask, read the answer, and see what reranking did to it. Run: `streamlit run streamlit_app.py`."""

import logging
import re
from collections.abc import Iterator

import altair as alt
import pandas as pd
import streamlit as st

from rag_app import builtin
from rag_app.pipeline import Pipeline, asked
from rag_app.settings import load_settings
from rag_app.types import SEPARATOR, Ask, RagError, Search, arrow, seconds

TITLE = "Ask the handbook"
EXAMPLES = (
    "How often should a Callisto C5 be recalibrated?",
    "Does the company pay for whisky after a business dinner?",
    "How early must I announce parental leave in Germany for a baby?",
)
# Blue, green and vermilion of Okabe & Ito, told apart by colour-blind people too; grey for the rest.
COLOURS = {"promoted into the answer": "#0072B2", "kept": "#009E73", "lost its place": "#D55E00", "not used": "#B8BCC4"}
FATES = dict(zip(("promoted", "kept", "lost", "unused"), COLOURS, strict=True))
STAGES = ("embed", "retrieve", "rerank")


@st.cache_resource(show_spinner="Starting the models")
def start() -> Pipeline:
    """Return the one pipeline that all sessions share."""
    settings = load_settings()
    logging.basicConfig(level="ERROR", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("rag_app").setLevel(settings.log_level.upper())
    return Pipeline(settings)


def plain(text: str) -> str:
    """Return text that Markdown shows as it stands: documents and models must not bring links, images or directives."""
    visible = "".join(c if c.isprintable() or c == "\n" else " " if c.isspace() else "" for c in text)
    # A word joiner keeps addresses from becoming links; every Markdown mark is escaped.
    unlinked = re.sub(r"(?<=:)(?=//)|(?<=\bwww)(?=\.)|(?=@)", "\u2060", visible)
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", unlinked).replace("\n", "  \n")


def movement(search: Search) -> alt.LayerChart:
    """Return the slope chart: rank before on the left, rank after on the right, one line a candidate."""
    rows = []
    cited = {citation.id for citation in search.answer.citations} if isinstance(search, Ask) else set()
    for after, candidate in enumerate(search.reranked, 1):
        before = candidate.retrieval.rank
        common = {
            "id": candidate.id,
            "fate": FATES[candidate.fate],
            "label": SEPARATOR.join((candidate.title, *candidate.headings[-1:])),
            "document": candidate.document,
            "text": candidate.text[:300],
            "cosine": candidate.retrieval.score,
            "rerank": candidate.rerank.score if candidate.rerank else None,
            "before": before,
            "after": after,
            "cited": candidate.id in cited,
        }
        rows.append({**common, "side": "before", "rank": before, "place": str(before)})
        rows.append({**common, "side": "after", "rank": after, "place": f"{after} {arrow(before - after)}"})
    n = len(search.candidates)
    ink = "#E8EAED" if st.context.theme.type == "dark" else "#30343B"
    ranks = alt.Scale(domain=[n + 0.5, 0.5], nice=False)
    base = alt.Chart(pd.DataFrame(rows)).encode(
        # The lines take two fifths of the width, the labels the rest: they shorten first when it is narrow.
        x=alt.X(
            "side:N",
            sort=["before", "after"],
            axis=alt.Axis(orient="top", title=None, labelAngle=0, domain=False),
            scale=alt.Scale(padding=0.75),
        ),
        y=alt.Y("rank:Q", scale=ranks, axis=None),
        color=alt.Color(
            "fate:N",
            scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
            legend=alt.Legend(orient="top", title=None, columns=2),
        ),
        tooltip=[
            "document:N",
            "text:N",
            "before:Q",
            "after:Q",
            alt.Tooltip("cosine:Q", format=".3f"),
            alt.Tooltip("rerank:Q", format=".3f"),
        ],
    )
    used = alt.datum.fate != "not used"
    lines = base.mark_line().encode(
        detail="id:N",
        size=alt.condition(used, alt.value(2.5), alt.value(1)),
        opacity=alt.condition(used, alt.value(1), alt.value(0.5)),
    )
    points = base.mark_point(filled=True, opacity=1, size=60)
    rings = base.mark_point(filled=False, size=190, strokeWidth=1.5).transform_filter(alt.datum.cited)

    def text(side: str, field: str, offset: int, limit: str) -> alt.Chart:
        return (
            base.mark_text(
                align="right" if side == "before" else "left",
                baseline="middle",
                dx=-offset if side == "before" else offset,
                fontSize=12,
                limit=alt.ExprRef(limit),
            )
            .encode(text=field, color=alt.value(ink), opacity=alt.condition(used, alt.value(1), alt.value(0.6)))
            .transform_filter(alt.datum.side == side)
        )

    labels = [
        text("before", "place:N", 12, "40"),
        text("before", "label:N", 32, "width * 0.3 - 34"),
        text("after", "place:N", 12, "60"),
        text("after", "label:N", 58, "width * 0.3 - 60"),
    ]
    cut = pd.DataFrame({"cut": [len(search.passages) + 0.5]})
    rule = alt.Chart(cut).mark_rule(strokeDash=[5, 4], color=ink).encode(y=alt.Y("cut:Q", scale=ranks, axis=None))
    return alt.layer(rule, lines, points, rings, *labels).properties(height=max(240, 20 * n))


def show_rankings(search: Search) -> None:
    """Show the movement, then the two rankings side by side, each with its own scores."""
    chart, lists = st.tabs(["Movement", "Lists"])
    chart.altair_chart(movement(search), width="stretch")
    before, after = lists.columns(2)
    before.markdown("**Before reranking** (cosine similarity)")
    columns = {
        name: st.column_config.NumberColumn(format="%.3f" if name != "rank" else None, width="small")
        for name in ("rank", "cosine", "rerank")
    }
    before.dataframe(
        [
            {
                "rank": c.retrieval.rank,
                "": "●" if c.passage_without_rerank else "",
                "cosine": c.retrieval.score,
                "document": c.heading_path,
            }
            for c in search.candidates
        ],
        hide_index=True,
        height="content",
        column_config=columns,
    )
    after.markdown("**After reranking** (raw rerank score)")
    after.dataframe(
        [
            {
                "rank": rank,
                "": "●" if c.passage else "",
                "moved": arrow(c.retrieval.rank - rank),
                "rerank": c.rerank.score if c.rerank else None,
                "document": c.heading_path,
            }
            for rank, c in enumerate(search.reranked, 1)
        ],
        hide_index=True,
        height="content",
        column_config=columns,
    )
    lists.caption("● a passage that the chat model gets. The two scores have different units: compare ranks, not scores.")


def show_passages(search: Search) -> None:
    """Show the passages as sent, in order, those that the answer cites first opened."""
    cited = {citation.id for citation in search.answer.citations} if isinstance(search, Ask) else set()
    for n, passage in enumerate(search.passages, 1):
        page = f", page {passage.page}" if passage.page else ""
        with st.expander(f"{plain(f'[{n}]')} {plain(passage.heading_path + page)}", expanded=passage.id in cited):
            st.caption(plain(passage.document))
            st.markdown(plain(passage.sent))


def show_receipt(search: Search) -> None:
    """Show what reranking did in one sentence, and its receipt."""
    st.markdown(f"#### {plain(search.effect)}")
    if search.rerank.status == "fallback":
        st.error(plain(search.rerank.line))
    else:
        st.caption(plain(search.rerank.line))
    for warning in search.rerank.warnings:
        st.warning(plain(warning))


def stage_line(ms: dict[str, float], running: str = "") -> str:
    """Return the stages done with their times, and the one that is running."""
    done = [f"{stage} {seconds(value)}" for stage, value in ms.items()]
    return " ▸ ".join([*done, f"{running} …"] if running else done)


def answer(pipeline: Pipeline, question: str, rerank: bool, n_candidates: int, n_passages: int) -> None:
    """Ask, showing each stage as it ends and the answer as it comes; the result is kept in the session."""
    st.session_state.pop("result", None)
    stages, text = st.empty(), st.empty()
    ms: dict[str, float] = {}

    def on_stage(stage: str, value: float) -> None:
        ms[stage] = value
        following = dict(zip(STAGES, (*STAGES[1:], "answer"), strict=True))
        stages.caption(stage_line(ms, following[stage]))

    stages.caption("embed …")
    search = pipeline.search(question, rerank=rerank, n_candidates=n_candidates, n_passages=n_passages, on_stage=on_stage)
    # Kept before the chat model is asked: the rankings are worth seeing without an answer too.
    st.session_state["result"] = search
    answering = pipeline.answer(search)

    def pieces() -> Iterator[str]:
        for piece in answering:
            yield plain(piece)

    with text.container():
        st.write_stream(pieces())
    stages.empty()
    text.empty()
    st.session_state["result"] = asked(search, answering)


def show(result: Search) -> None:
    """Show a search, with its answer if there is one, and everything that led to it."""
    st.subheader(plain(result.question))
    ms = result.ms
    stages = {"embed": ms.embed, "retrieve": ms.retrieve, "rerank": ms.rerank}
    if isinstance(result, Ask):
        st.caption(stage_line({**stages, "answer": result.ms.chat}))
        show_answer(result)
    else:
        st.caption(stage_line(stages))
    show_receipt(result)
    show_rankings(result)
    st.markdown("#### Passages as sent")
    show_passages(result)


def show_answer(result: Ask) -> None:
    """Show the answer, and what is to be known about it."""
    st.markdown(plain(result.answer.text))
    notes = []
    if result.answer.model == builtin.CHAT_MODEL:
        notes.append("Built-in extractive model: it quotes from the passages or declines, no language model.")
    if result.answer.dropped:
        notes.append(f"Taken out of the answer: {', '.join(f'[{n}]' for n in result.answer.dropped)}, which no passage has.")
    if result.answer.finish == "length":
        notes.append("The answer stops at the model's token limit.")
    if result.answer.finish == "cut_short":
        notes.append("The answer may be cut short: its stream broke off.")
    for note in notes:
        st.caption(plain(note))


def pick_example() -> None:
    """Put the example that was clicked into the question box, and ask it."""
    if example := st.session_state["example"]:
        st.session_state["question"] = example
        st.session_state["ask"] = True
        st.session_state["example"] = None


def main() -> None:
    """Lay out the page."""
    st.set_page_config(page_title=TITLE, layout="wide")
    st.title(TITLE)
    try:
        page()
    except RagError as error:
        # A pipeline that cannot go on is made anew for the next question.
        start.clear()  # type: ignore[attr-defined]
        st.error(plain(str(error)))


def page() -> None:
    """Show the sidebar, the question box and the last result."""
    pipeline = start()
    settings = pipeline.settings
    with st.sidebar:
        n, top = settings.n_candidates, settings.n_passages
        n_candidates = st.slider("Candidates", min(20, n), max(50, n), n)
        n_passages = st.slider("Passages", min(3, top), max(5, top), top)
        rerank = st.toggle("Rerank", value=True)
        st.caption(f"Collection {plain(settings.collection)}, {pipeline.store.count()} chunks")
        for line in settings.advice():
            st.caption(plain(line))
    with st.form("ask_form", border=False):
        left, right = st.columns([6, 1], vertical_alignment="bottom")
        question = left.text_input("Question", placeholder=EXAMPLES[0], key="question")
        pressed = right.form_submit_button("Ask", type="primary", width="stretch")
    st.pills("Examples", EXAMPLES, label_visibility="collapsed", key="example", on_change=pick_example)
    chosen = (question, rerank, n_candidates, n_passages)
    if pressed or st.session_state.pop("ask", False):
        st.session_state["asked"] = chosen
        try:
            answer(pipeline, *chosen)
        except RagError as error:
            st.error(plain(str(error)))
    elif question and "result" in st.session_state and st.session_state.get("asked") != chosen:
        st.info("The settings have changed since this was asked: press Ask to see the difference.")
    if result := st.session_state.get("result"):
        show(result)


main()
