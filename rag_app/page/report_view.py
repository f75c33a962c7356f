"""A report as the page shows it: the verdict on top, then what it rests on."""

import time
from collections.abc import Sequence

import streamlit as st
from markupsafe import Markup

from rag_app.evaluation import charts
from rag_app.evaluation import html_report as report_html
from rag_app.evaluation.answers import moved as changed
from rag_app.evaluation.differences import Measured
from rag_app.evaluation.report import Outcome, Report, moved
from rag_app.evaluation.verdict import NEXT, SENTENCES, shown_p
from rag_app.page import resources, states
from rag_app.page.ask import candidates_range
from rag_app.page.hostile import html, joined, plain, visible
from rag_app.page.say import t
from rag_app.page.visit import visit
from rag_app.types import arrow, seconds
from rag_app.words import Message, msg

STAGES = {"embed": msg("embed"), "retrieve": msg("retrieve"), "rerank": msg("rerank")}
# What the charts say.
CHARTED = (
    msg("before"),
    msg("after"),
    msg("ceiling"),
    msg("question"),
    msg("difference in"),
    msg("candidates"),
    msg("passages"),
    msg("not reranked"),
)
ANSWERS = (
    msg("exact match"),
    msg("token F1"),
    msg("answered (answerable)"),
    msg("declined (unanswerable)"),
    msg("citation precision"),
    msg("citation recall"),
    msg("right by the judge"),
)


def show(report: Report) -> None:
    """Show a report: the verdict, then what it rests on."""
    said, to_do, values = report.verdict.parts
    st.html(
        html(
            '<div class="verdict {kind}" role="status"><h3>{sentence}</h3><p class="todo">→ {to_do}</p></div>',
            kind=report.verdict.kind.replace(" ", "-"),
            sentence=t(SENTENCES[said], **values) if said else report.verdict.sentence,
            to_do=t(NEXT[to_do], **values) if to_do else report.verdict.next,
        )
    )
    c = report.counts
    counted = t(
        "{set}, collection {collection}, {candidates} candidates: {n} questions, {measured} measured, {unanswerable} "
        "unanswerable, {unjudged} without a judgement that is found here, {failed} failed.",
        set=report.set,
        collection=report.collection or "–",
        candidates=report.n_candidates,
        n=c.questions,
        measured=c.measured,
        unanswerable=c.unanswerable,
        unjudged=c.unjudged,
        failed=c.failed,
    )
    if report.sample:
        counted += " " + t("A sample of {n} questions.", n=report.sample)
    st.caption(plain(counted))
    for failure in report.failures:
        st.error(
            plain(t("Failed, left out: {n} questions: {reason}", n=failure.questions, reason=failure.reason)),
            icon=":material/error:",
        )
    for skipped in report.skipped:
        reason = t("Not reranked, retrieval order counts: {n} questions: {reason}", n=skipped.questions, reason=skipped.reason)
        states.note(reason, "block")
    for warning in report.warnings:
        states.note(t("{n} questions: {reason}", n=warning.questions, reason=warning.reason), "warning")
    if report.left_out:
        states.note(t("{n} records of the corpus are not stored: they are empty, or were refused.", n=report.left_out), "block")
    if c.lost:
        states.note(t("{n} judgements stand in no chunk.", n=c.lost) + " " + "; ".join(report.lost[:3]), "link_off")
    if not report.measured:
        return
    dark = st.context.theme.type == "dark"
    question_by_question(report, dark)
    st.subheader(t("Before, after, and the ceiling"), anchor=False)
    st.caption(t("The tick is the best order of the same candidates: what is beyond it only retrieval can bring."))
    st.altair_chart(charts.ceilings(report.measured, dark=dark, say=t, wide=True), alt=t("Before, after, and the ceiling"))
    st.html(measured_table(report.measured))
    if report.sweep:
        show_sweep(report, dark)
    time_and_cost(report)
    if report.answers:
        st.subheader(t("Answers"), anchor=False)
        st.html(measured_table(report.answers.measured))
        for stage in report.answers.stages:
            st.caption(t("An answer takes {p50} (p50), {p95} (p95).", p50=seconds(stage.p50), p95=seconds(stage.p95)))
        for pair in changed(report.answers.pairs, 5):
            with st.expander(plain(pair.question)):
                st.html(
                    html(
                        '<p class="quiet">{expected}: <bdi>{wanted}</bdi></p><p><b>{before}</b> <bdi>{first}</bdi></p>'
                        "<p><b>{after}</b> <bdi>{second}</bdi></p>",
                        expected=t("expected"),
                        wanted=" / ".join(pair.expected) or t("no answer"),
                        before=t("before"),
                        first=pair.before.text,
                        after=t("after"),
                        second=pair.after.text,
                    )
                )
        for reason, n in report.answers.failures.items():
            st.error(plain(t("Failed, left out: {n} answers: {reason}", n=n, reason=reason)), icon=":material/error:")
        if a := report.answers.agreement:
            agrees = t("The judge {model} agrees with the labels on {share} of {n} answers (kappa {kappa}).")
            st.caption(plain(agrees.format(model=a.model, share=f"{a.share:.0%}", n=a.n, kappa=f"{a.kappa:.2f}")))
    downloads(report)


def question_by_question(report: Report, dark: bool) -> None:
    """Show the difference of every question as a bar; a click on one, or a choice below, leads to its rankings."""
    name = report.measured[0].name
    m = report.measured[0]
    st.subheader(t("Question by question"), anchor=False)
    st.caption(
        t(
            "{wins} better, {ties} the same, {losses} worse. Click a bar to see its rankings.",
            wins=m.wins,
            ties=m.ties,
            losses=m.losses,
        )
    )
    by_id = {o.id: o for o in report.outcomes}

    def clicked() -> None:
        picked = st.session_state["bars"]["selection"].get(charts.SELECTED) or []
        if picked and picked[0].get("id") in by_id:
            _open(by_id[picked[0]["id"]], report)

    st.altair_chart(
        charts.differences(report, dark=dark, say=t, click=True),
        on_select=clicked,
        selection_mode=[charts.SELECTED],
        key="bars",
        alt=t("The difference of each question, sorted"),
    )
    gained, lost = moved(report, 5)
    for column, title, outcomes in zip(st.columns(2), (t("Gained most"), t("Lost most")), (gained, lost), strict=True):
        with column:
            st.markdown(f"**{title}**")
            for o in outcomes:
                with st.expander(f"{o.after[name] - o.before[name]:+.3f} · {plain(o.question)}"):
                    st.html(places(o))
                    st.button(t("Show its rankings"), key=f"open-{o.id}", on_click=_open, args=(o, report))
            if not outcomes:
                st.caption(t("none"))
    order = sorted(report.outcomes, key=lambda o: o.before[name] - o.after[name])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            t("Any question"),
            order,
            format_func=lambda o: f"{o.after[name] - o.before[name]:+.3f} · {visible(o.question)}",
            key="any_question",
        )
        st.button(t("Show its rankings"), key="open-any", on_click=_open, args=(chosen, report))
    if st.session_state.pop("leave", False):
        st.switch_page(visit().pages["ask"])


def places(outcome: Outcome) -> Markup:
    """Return the relevant candidates and those that stood first, with their ranks."""
    items = [
        html(
            '<li class="{relevant}"><b>{before} → {after} {arrow}</b> {grade} <bdi>{document}</bdi>'
            '<div dir="auto">{text}</div></li>',
            relevant="relevant" if place.grade else "",
            before=place.before,
            after=place.after,
            arrow=arrow(place.before - place.after),
            grade=t("not judged") if place.grade is None else t("grade {n}", n=place.grade),
            document=place.document,
            text=place.text,
        )
        for place in sorted(outcome.places, key=lambda place: place.after)
    ]
    missing = (
        html('<p class="quiet">{said}</p>', said=t("No relevant chunk is among the candidates."))
        if outcome.recall == 0
        else html("")
    )
    return html('{missing}<ul class="places">{items}</ul>', missing=missing, items=joined(items))


def _open(outcome: Outcome, report: Report) -> None:
    """Ask a question on the Ask page, as it was asked in the run, or as nearly as that page can."""
    if report.collection not in resources.collection_names():
        gone = t("The collection {collection} of this run is not there any more.", collection=report.collection)
        st.toast(plain(gone), icon=":material/error:")
        return
    fewest, most = candidates_range(resources.settings())
    visit().picked = outcome.question
    st.session_state["collection"] = report.collection
    st.session_state["candidates"] = max(fewest, min(most, report.n_candidates))
    st.session_state["leave"] = True


def measured_table(measured: Sequence[Measured]) -> Markup:
    """Return measures as a table."""
    heads = (
        t("before"),
        t("after"),
        t("change"),
        t("95% interval"),
        "p",
        t("ceiling"),
        "n",
        "▲ / = / ▼",
        t("questions to find it"),
    )
    rows = [
        html(
            "<tr><th>{name}</th>{cells}</tr>",
            name=t(m.name),
            cells=joined(
                [
                    html('<td class="number">{value}</td>', value=value)
                    for value in (
                        f"{m.before:.3f}",
                        f"{m.after:.3f}",
                        f"{m.difference:+.3f}",
                        f"{m.low:+.3f} … {m.high:+.3f}",
                        shown_p(m.p),
                        "–" if m.ceiling is None else f"{m.ceiling:.3f}",
                        f"{m.n:,}",
                        f"{m.wins} / {m.ties} / {m.losses}",
                        "–" if m.needed is None else f"{m.needed:,}",
                    )
                ]
            ),
        )
        for m in measured
    ]
    head = joined([html('<th class="number">{head}</th>', head=head) for head in heads])
    return html(
        '<div class="scroll" tabindex="0"><table class="facts measures"><thead><tr><th></th>{head}</tr></thead>'
        "<tbody>{rows}</tbody></table></div>",
        head=head,
        rows=joined(rows),
    )


def show_sweep(report: Report, dark: bool) -> None:
    """Show the heat map of candidates and passages, and the cheapest setting."""
    found = report.sweep
    if found is None:
        return
    st.subheader(t("How many candidates and passages"), anchor=False)
    shown = [(found.best, t("Best: {setting} ({quality}, {cost} {unit} a question)."))]
    if found.cheapest:
        cheapest = t("Cheapest within the noise of the best: **{setting}** ({quality}, {cost} {unit} a question).")
        shown.insert(0, (found.cheapest, cheapest))
    else:
        st.markdown(t("Too few questions to tell which settings are as good as the best."))
    for cell, text in shown:
        many, none = t("{candidates} candidates reranked, {passages} passages"), t("no reranking, {passages} passages")
        setting = (many if cell.candidates else none).format(candidates=cell.candidates, passages=cell.passages)
        values = {"quality": f"{cell.quality:.3f}", "cost": f"{cell.cost:.4g}", "unit": plain(t(found.unit))}
        st.markdown(text.format(setting=setting, **values))
    st.altair_chart(
        charts.heat_map(found, dark=dark, say=t, wide=True), alt=t("Recall of the passages, by candidates and passages")
    )
    st.caption(t("Recall of the passages; ≈ is within the noise of the best, ★ the cheapest of those. Costs are estimated."))


def time_and_cost(report: Report) -> None:
    """Show times, tokens, what the gain costs, and how scores tell unanswerable questions."""
    if not report.stages:
        return
    st.subheader(t("Time and cost"), anchor=False)
    rows = [
        html(
            '<tr><th>{name}</th><td class="number">{p50}</td><td class="number">{p95}</td>'
            '<td class="number">{tokens}</td></tr>',
            name=t(STAGES[stage.name]),
            p50=seconds(stage.p50),
            p95=seconds(stage.p95),
            tokens="–" if stage.tokens is None else f"{stage.tokens:,}",
        )
        for stage in report.stages
    ]
    st.html(
        html(
            '<table class="facts"><thead><tr><th></th><th class="number">p50</th><th class="number">p95</th>'
            '<th class="number">{tokens}</th></tr></thead><tbody>{rows}</tbody></table>',
            tokens=t("tokens"),
            rows=joined(rows),
        )
    )
    name = report.measured[0].name
    parts = [t("As first measured.")]
    if report.gain_per_100_ms is not None:
        parts.append(t("{gain} {measure} for 100 ms of reranking.", gain=f"{report.gain_per_100_ms:+.4f}", measure=name))
    if report.gain_per_unit is not None and report.rerank_cost is not None:
        parts.append(
            t(
                "{gain} {measure} for 1 {currency} a question; reranking costs {cost} {currency} for 1,000 questions.",
                gain=f"{report.gain_per_unit:+.3g}",
                measure=name,
                currency=report.currency,
                cost=f"{1000 * report.rerank_cost:.4g}",
            )
        )
    st.caption(plain(" ".join(parts)))
    if report.unanswerable:
        st.subheader(t("Questions that nothing answers"), anchor=False)
    for s in report.unanswerable:
        st.markdown(
            t(
                "By the {score}, an answerable question is above an unanswerable one {auc} of the time. At {threshold}, "
                "{kept} of {n} answerable questions are kept and {refused} of {n_other} others turned away.",
                score=msg("highest rerank score")
                if s.score == "rerank"
                else msg("{score} of the first candidate", score=Message(s.score)),
                auc=f"{s.auc:.0%}",
                threshold=f"{s.threshold:.4g}",
                kept=f"{s.kept:.0%}",
                n=s.n_answerable,
                refused=f"{s.refused:.0%}",
                n_other=s.n_unanswerable,
            )
        )


def downloads(report: Report) -> None:
    """Offer the report as one HTML file, and as JSON."""
    stem = f"rerank-{report.set.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M', time.localtime(report.when))}"
    with st.container(horizontal=True):
        st.download_button(
            t("Report (HTML)"), lambda: report_html.of_report(report), f"{stem}.html", "text/html", icon=":material/download:"
        )
        st.download_button(
            t("Report (JSON)"),
            lambda: report.model_dump_json(indent=2),
            f"{stem}.json",
            "application/json",
            icon=":material/download:",
        )


def over_time(report: Report, kept: Sequence[Report]) -> None:
    """Show the kept runs of one set, the oldest first, before and after."""
    same = [
        r
        for r in kept
        if r.measured
        and report.measured
        and (r.set, r.sample, r.measured[0].name) == (report.set, report.sample, report.measured[0].name)
    ]
    if len(same) < 2:
        return
    st.subheader(t("Runs over time"), anchor=False)
    dark = st.context.theme.type == "dark"
    st.altair_chart(charts.over_time(same, dark=dark, say=t, wide=True), alt=t("Runs over time"))
    st.dataframe(
        [
            {
                t("when"): time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(r.when)),
                t("before"): round(r.measured[0].before, 3),
                t("after"): round(r.measured[0].after, 3),
                t("change"): round(r.measured[0].difference, 3),
                t("candidates"): r.n_candidates,
                t("measured"): r.counts.measured,
                t("failed"): r.counts.failed,
                t("collection"): visible(r.collection),
                t("embedding model"): visible(r.system.get("embedding_model", "")),
                t("rerank model"): visible(r.system.get("rerank_model", "")),
            }
            for r in reversed(same)
        ],
        hide_index=True,
        alt=t("Runs over time"),
    )
