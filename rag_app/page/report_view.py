"""A report as the page shows it: how it draws a sentence, a table and a chart, and what only a page can do."""

import time
from collections.abc import Callable, Iterable, Sequence

import streamlit as st

from rag_app.evaluation import charts, html_report, report_sections
from rag_app.evaluation.report import Outcome, Report
from rag_app.evaluation.sections import Chart, Columns, Fold, Heading, Section
from rag_app.page.hostile import plain, visible
from rag_app.page.say import t, w
from rag_app.words import msg

# Questions shown of those that gained and lost most.
SHOWN = 5
# Shows the rankings that were measured for a question, by its id.
Rankings = Callable[[str], None]


def show(report: Report, show: Rankings | None = None) -> None:
    """Show a report; where `show` is given, the rankings of each question can be shown."""
    draw(report_sections.of_report(report, SHOWN), show)
    downloads(report)


def over_time(report: Report, kept: Sequence[Report]) -> None:
    """Show the kept runs like this one, the oldest first, before and after."""

    def kind(r: Report) -> object:
        return r.measured and (r.set, r.sample, r.measured[0].name, r.system.get("judgements"))

    same = [r for r in kept if r.measured and kind(r) == kind(report)]
    if len(same) > 1:
        draw(report_sections.over_time(same))


def draw(sections: Iterable[Section], show: Rankings | None = None) -> None:
    """Draw sections, one below the other."""
    for section in sections:
        match section:
            case Heading():
                st.subheader(t(section.text), anchor=False)
            case Chart():
                chart(section, show)
            case Fold():
                with st.expander(plain(t(section.title))):
                    draw(section.body)
                    if show and section.question:
                        rankings(section, show)
            case Columns():
                for place, column in zip(st.columns(len(section.columns)), section.columns, strict=True):
                    with place:
                        draw(column, show)
            case _:
                st.html(html_report.drawn(section, w()))


def chart(section: Chart, show: Rankings | None) -> None:
    """Draw a chart; a click on a question's bar shows its rankings, as does a choice below."""
    drawn = charts.draw(section.name, section.of, w(), dark=st.context.theme.type == "dark", wide=True)
    if section.name != "differences" or not show:
        st.altair_chart(drawn, alt=t(section.alt))
        return
    report: Report = section.of
    by_id = {o.id: o for o in report.outcomes}
    st.caption(t(msg("Click a bar to see its rankings.")))
    event = st.altair_chart(drawn, on_select="rerun", selection_mode=[charts.SELECTED], key="bars", alt=t(section.alt))
    picked = event["selection"].get(charts.SELECTED) or [{}]
    if clicked := by_id.get(picked[0].get("id", "")):
        question(clicked, report, show)
    order = sorted(by_id, key=lambda i: report_sections.gained(by_id[i], report))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        label = {i: visible(t(report_sections.gain(by_id[i], report))) for i in order}
        chosen = st.selectbox(t(msg("Any question")), order, format_func=label.__getitem__, key="any_question")
        pressed = st.button(t(msg("Show its rankings")), key="show-any")
    if pressed and chosen:
        question(by_id[chosen], report, show)


def question(outcome: Outcome, report: Report, show: Rankings) -> None:
    """Show a question with its rankings."""
    st.markdown(f"**{plain(t(report_sections.gain(outcome, report)))}**")
    show(outcome.id)


def rankings(fold: Fold, show: Rankings) -> None:
    """Offer the rankings of a question, and show them below when they are asked for."""
    # A question may be among those that moved, and among the answers.
    if st.button(t(msg("Show its rankings")), key=f"show-{fold.title}-{fold.question}"):
        show(fold.question)


def downloads(report: Report) -> None:
    """Offer the report as one HTML file, and as JSON."""
    stem = f"rerank-{report.set.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M', time.localtime(report.when))}"
    say, icon = w(), ":material/download:"
    with st.container(horizontal=True):
        html, json = t(msg("Report (HTML)")), t(msg("Report (JSON)"))
        st.download_button(html, lambda: html_report.of_report(report, say), f"{stem}.html", "text/html", icon=icon)
        st.download_button(json, lambda: report.model_dump_json(indent=2), f"{stem}.json", "application/json", icon=icon)
