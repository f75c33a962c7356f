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
from rag_app.types import SEPARATOR, Ask, Candidate, RagError, Search, seconds

TITLE = "Ask the handbook"
EXAMPLES = (
    "How often should a Callisto C5 be recalibrated?",
    "Does the company pay for whisky after a business dinner?",
    "How early must I announce parental leave in Germany for a baby?",
)
# Blue, green and vermilion of Okabe & Ito, told apart by colour-blind people too; grey for the rest.
FATES = {"promoted into the answer": "#0072B2", "kept": "#009E73", "lost its place": "#D55E00", "not used": "#B8BCC4"}
INK = "#30343B"
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


def fate(candidate: Candidate) -> str:
    """Return the legend entry of a candidate: what reranking meant for its place among the passages."""
    if candidate.passage:
        return "kept" if candidate.passage_without_rerank else "promoted into the answer"
    return "lost its place" if candidate.passage_without_rerank else "not used"


def moved(distance: int) -> str:
    """Return ▲5, ▼13 or nothing for a distance up, down or none."""
    return f"▲{distance}" if distance > 0 else f"▼{-distance}" if distance < 0 else ""


def movement(search: Search) -> alt.LayerChart:
    """Return the slope chart: rank before on the left, rank after on the right, one line a candidate."""
    rows = []
    cited = {citation.id for citation in search.answer.citations} if isinstance(search, Ask) else set()
    for after, candidate in enumerate(search.reranked, 1):
        before = candidate.retrieval.rank
        common = {
            "id": candidate.id,
            "fate": fate(candidate),
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
        rows.append({**common, "side": "after", "rank": after, "place": f"{after} {moved(before - after)}"})
    n = len(search.candidates)
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
            scale=alt.Scale(domain=list(FATES), range=list(FATES.values())),
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
            .encode(text=field, color=alt.value(INK), opacity=alt.condition(used, alt.value(1), alt.value(0.6)))
            .transform_filter(alt.datum.side == side)
        )

    labels = [
        text("before", "place:N", 12, "40"),
        text("before", "label:N", 32, "width * 0.3 - 34"),
        text("after", "place:N", 12, "60"),
        text("after", "label:N", 58, "width * 0.3 - 60"),
    ]
    cut = pd.DataFrame({"cut": [len(search.passages) + 0.5]})
    rule = alt.Chart(cut).mark_rule(strokeDash=[5, 4], color=INK).encode(y=alt.Y("cut:Q", scale=ranks, axis=None))
    return alt.layer(rule, lines, points, rings, *labels).properties(height=max(240, 20 * n))


def show_rankings(search: Search) -> None:
    """Show the movement, then the two rankings side by side, each with its own scores."""
    chart, lists = st.tabs(["Movement", "Lists"])
    chart.altair_chart(movement(search), width="stretch")
    before, after = lists.columns(2)
    before.markdown("**Before reranking** (cosine similarity)")
    before.dataframe(
        [
            {
                "rank": c.retrieval.rank,
                "": "●" if c.passage_without_rerank else "",
                "document": c.heading_path,
                "cosine": c.retrieval.score,
            }
            for c in search.candidates
        ],
        hide_index=True,
        column_config={"cosine": st.column_config.NumberColumn(format="%.3f")},
    )
    after.markdown("**After reranking** (raw rerank score)")
    after.dataframe(
        [
            {
                "rank": rank,
                "": "●" if c.passage else "",
                "moved": moved(c.retrieval.rank - rank),
                "document": c.heading_path,
                "rerank": c.rerank.score if c.rerank else None,
            }
            for rank, c in enumerate(search.reranked, 1)
        ],
        hide_index=True,
        column_config={"rerank": st.column_config.NumberColumn(format="%.3f")},
    )
    lists.caption("● a passage that the chat model gets. The two scores have different units: compare ranks, not scores.")


def show_passages(search: Search) -> None:
    """Show the passages as sent, in order, those that the answer cites first opened."""
    cited = {citation.id for citation in search.answer.citations} if isinstance(search, Ask) else set()
    for n, passage in enumerate(search.passages, 1):
        page = f", page {passage.page}" if passage.page else ""
        with st.expander(f"{plain(f'[{n}]')} {plain(passage.heading_path + page)}", expanded=passage.id in cited):
            st.caption(plain(passage.document))
            st.markdown(plain(passage.text))


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


def answer(pipeline: Pipeline, question: str, rerank: bool, n_candidates: int, n_passages: int) -> Ask:
    """Ask, showing each stage as it ends and the answer as it comes."""
    stages, text = st.empty(), st.empty()
    ms: dict[str, float] = {}

    def on_stage(stage: str, value: float) -> None:
        ms[stage] = value
        following = dict(zip(STAGES, (*STAGES[1:], "answer"), strict=True))
        stages.caption(stage_line(ms, following[stage]))

    stages.caption("embed …")
    search = pipeline.search(question, rerank=rerank, n_candidates=n_candidates, n_passages=n_passages, on_stage=on_stage)
    answering = pipeline.answer(search)

    def pieces() -> Iterator[str]:
        for piece in answering:
            yield plain(piece)

    with text.container():
        st.write_stream(pieces())
    stages.empty()
    text.empty()
    return asked(search, answering)


def show(result: Ask) -> None:
    """Show a finished answer with everything that led to it."""
    ms = result.ms
    st.caption(stage_line({"embed": ms.embed, "retrieve": ms.retrieve, "rerank": ms.rerank, "answer": ms.chat}))
    st.markdown(plain(result.answer.text))
    notes = []
    if result.answer.model == builtin.CHAT_MODEL:
        notes.append("Built-in extractive model: sentences quoted from the passages, no language model.")
    if result.answer.dropped:
        notes.append(f"Taken out of the answer: {', '.join(f'[{n}]' for n in result.answer.dropped)}, which no passage has.")
    if result.answer.finish != "stop":
        notes.append(
            "The answer may be cut short: " + ("token limit." if result.answer.finish == "length" else "its stream broke off.")
        )
    for note in notes:
        st.caption(plain(note))
    show_receipt(result)
    show_rankings(result)
    st.markdown("#### Passages as sent")
    show_passages(result)


def main() -> None:
    """Lay out the page."""
    st.set_page_config(page_title=TITLE, layout="wide")
    st.title(TITLE)
    try:
        pipeline = start()
    except RagError as error:
        st.error(plain(str(error)))
        st.stop()
    settings = pipeline.settings
    with st.sidebar:
        n_candidates = st.slider("Candidates", 20, 50, min(max(settings.n_candidates, 20), 50))
        n_passages = st.slider("Passages", 3, 5, min(max(settings.n_passages, 3), 5))
        rerank = st.toggle("Rerank", value=True)
        st.caption(f"Collection {plain(settings.collection)}, {pipeline.store.count()} chunks")
    with st.form("ask", border=False):
        left, right = st.columns([6, 1], vertical_alignment="bottom")
        question = left.text_input("Question", placeholder=EXAMPLES[0])
        pressed = right.form_submit_button("Ask", type="primary", width="stretch")
    example = st.pills("Examples", EXAMPLES, label_visibility="collapsed", key="example")
    if not pressed and example and st.session_state.get("shown") != example:
        question, pressed = example, True
        st.session_state["shown"] = example
    if pressed and question.strip():
        try:
            st.session_state["result"] = answer(pipeline, question, rerank, n_candidates, n_passages)
        except RagError as error:
            st.session_state.pop("result", None)
            st.error(plain(str(error)))
    if result := st.session_state.get("result"):
        st.subheader(plain(result.question))
        show(result)


main()
