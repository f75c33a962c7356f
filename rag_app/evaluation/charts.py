"""The pictures of a report, as Altair charts: the same on the page and, drawn as SVG, in the HTML report."""

from collections.abc import Callable, Sequence
from typing import Any

import altair as alt

from rag_app import colours
from rag_app.evaluation.comparing import Comparison
from rag_app.evaluation.differences import Measured
from rag_app.evaluation.report import Report
from rag_app.evaluation.report_sections import when
from rag_app.evaluation.sweep import Sweep
from rag_app.evaluation.sweep_sections import unit
from rag_app.words import Words, msg

SELECTED = "question"


def draw(name: str, of: Any, say: Words, *, dark: bool = False, wide: bool = False) -> Any:
    """Return the chart of `DRAWN` with that name, of what it draws, in a language."""
    return DRAWN[name](of, say, dark=dark, wide=wide).configure(locale=say.vega)


def differences(report: Report, say: Words, *, dark: bool = False, wide: bool = False) -> Any:
    """A bar for each question, sorted by its difference; a wide one, on the page, can be clicked (parameter `question`)."""
    name = report.measured[0].name
    order = sorted(report.outcomes, key=lambda o: (o.after[name] - o.before[name], o.id))
    rows = [
        {
            "place": i,
            "id": o.id,
            "question": o.question[:200],
            "before": o.before[name],
            "after": o.after[name],
            "difference": (change := round(o.after[name] - o.before[name], 6)),
            "way": "gain" if change > 0 else "loss" if change < 0 else "same",
        }
        for i, o in enumerate(order, 1)
    ]
    gain, loss, same = (colour[dark] for colour in (colours.GAIN, colours.LOSS, colours.SAME))
    chart = (
        alt.Chart(alt.InlineData(values=rows), height=260, width="container" if wide else 900)
        .mark_bar(aria=False)
        .encode(
            x=alt.X("place:O", axis=None, title=None),
            y=alt.Y("difference:Q", title=say(msg("difference in {measure}", measure=name))),
            color=alt.Color("way:N", scale=alt.Scale(domain=["gain", "loss", "same"], range=[gain, loss, same]), legend=None),
            tooltip=[
                alt.Tooltip("question:N", title=say(msg("question"))),
                alt.Tooltip("before:Q", title=say(msg("before")), format=".3f"),
                alt.Tooltip("after:Q", title=say(msg("after")), format=".3f"),
            ],
        )
    )
    return chart.add_params(alt.selection_point(name=SELECTED, fields=["id"])) if wide else chart


def ceilings(measured: Sequence[Measured], say: Words, *, dark: bool = False, wide: bool = False) -> Any:
    """For each measure a line from before to after, and a tick at the best order of the same candidates."""
    points = [
        {"measure": m.name, "which": say(which), "value": value}
        for m in measured
        for which, value in ((msg("before"), m.before), (msg("after"), m.after))
    ]
    lines = [{"measure": m.name, "before": m.before, "after": m.after, "ceiling": m.ceiling} for m in measured]
    names = [m.name for m in measured]
    before, after = colours.BEFORE[dark], colours.AFTER[dark]
    y = alt.Y("measure:N", sort=names, title=None)
    base = alt.Chart(alt.InlineData(values=lines)).encode(y=y)
    rule = base.mark_rule(strokeWidth=3, color=before, aria=False).encode(
        x=alt.X("before:Q", scale=alt.Scale(domain=[0, 1]), title=None), x2="after:Q"
    )
    tick = base.mark_tick(thickness=3, size=18, color=before, aria=False).encode(
        x="ceiling:Q", tooltip=[alt.Tooltip("ceiling:Q", title=say(msg("ceiling")), format=".3f")]
    )
    dots = (
        alt.Chart(alt.InlineData(values=points))
        .mark_point(size=110, filled=True, opacity=1, aria=False)
        .encode(
            y=y,
            x="value:Q",
            color=alt.Color(
                "which:N",
                scale=alt.Scale(domain=[say(msg("before")), say(msg("after"))], range=[before, after]),
                legend=alt.Legend(title=None, orient="top"),
            ),
            tooltip=[
                alt.Tooltip("measure:N", title=say(msg("measure"))),
                alt.Tooltip("which:N", title=say(msg("ranking"))),
                alt.Tooltip("value:Q", title=say(msg("value")), format=".3f"),
            ],
        )
    )
    return alt.layer(rule, tick, dots).properties(height=36 * len(measured) + 20, width="container" if wide else 900)


def heat_map(sweep: Sweep, say: Words, *, dark: bool = False, wide: bool = False) -> Any:
    """Candidates down, passages across; ≈ is within the noise of the best, ★ the cheapest of those."""
    rows = [
        {
            "candidates": str(cell.candidates) if cell.candidates else say(msg("not reranked")),
            "order": cell.candidates,
            "passages": cell.passages,
            "quality": cell.quality,
            "said": say.number(cell.quality, ".3f") + ("★" if cell == sweep.cheapest else " ≈" if cell.within else ""),
            "cost": round(cell.cost, 6),
        }
        for cell in sweep.cells
    ]
    low, high = min(cell.quality for cell in sweep.cells), max(cell.quality for cell in sweep.cells)
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("passages:O", title=say(msg("passages")), axis=alt.Axis(labelAngle=0)),
        y=alt.Y("candidates:N", sort=alt.EncodingSortField("order"), title=say(msg("candidates"))),
    )
    shades = [colours.PALE[dark], colours.GAIN[dark]]
    full = f"datum.quality > {(low + high) / 2}"
    letters = alt.condition(full, alt.value(colours.ON_FULL[dark]), alt.value(colours.ON_PALE[dark]))
    tooltip = [
        alt.Tooltip("candidates:N", title=say(msg("candidates"))),
        alt.Tooltip("passages:O", title=say(msg("passages"))),
        alt.Tooltip("quality:Q", title=sweep.measure, format=".3f"),
        alt.Tooltip("cost:Q", title=say(unit(sweep))),
    ]
    squares = base.mark_rect(aria=False).encode(
        color=alt.Color("quality:Q", scale=alt.Scale(domain=[low, high], range=shades), legend=None), tooltip=tooltip
    )
    texts = base.mark_text(aria=False).encode(text="said:N", color=letters, tooltip=tooltip)
    n = len({cell.candidates for cell in sweep.cells})
    return alt.layer(squares, texts).properties(height=36 * n + 20, width="container" if wide else 700)


def systems(comparison: Comparison, say: Words, *, dark: bool = False, wide: bool = False) -> Any:
    """The difference of each system from the first, with its interval."""
    rows = [
        {"system": s.name, "difference": s.difference.difference, "low": s.difference.low, "high": s.difference.high}
        for s in comparison.systems
        if s.difference
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=alt.Y("system:N", sort=None, title=None))
    before, after = colours.BEFORE[dark], colours.AFTER[dark]
    title = say(msg("difference in {measure}", measure=comparison.measure))
    line = base.mark_rule(strokeWidth=3, color=before, aria=False).encode(x=alt.X("low:Q", title=title), x2="high:Q")
    dot = base.mark_point(size=110, filled=True, opacity=1, color=after, aria=False).encode(x="difference:Q")
    zero = alt.Chart(alt.InlineData(values=[{"x": 0}])).mark_rule(strokeDash=[4, 4], color=before, aria=False).encode(x="x:Q")
    return alt.layer(zero, line, dot).properties(height=36 * len(rows) + 20, width="container" if wide else 900)


def over_time(reports: Sequence[Report], say: Words, *, dark: bool = False, wide: bool = False) -> Any:
    """Before and after of the kept runs of one set, by the time they were made."""
    rows = [
        {
            "when": when(report.when),
            "which": say(which),
            "value": value,
            "model": report.system.get("rerank_model", ""),
            "n": report.counts.measured,
        }
        for report in reports
        for which, value in ((msg("before"), report.measured[0].before), (msg("after"), report.measured[0].after))
    ]
    before, after = colours.BEFORE[dark], colours.AFTER[dark]
    name = reports[0].measured[0].name
    return (
        alt.Chart(alt.InlineData(values=rows), height=220, width="container" if wide else 900)
        .mark_line(point=True, aria=False)
        .encode(
            x=alt.X("when:O", title=None, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("value:Q", title=name, scale=alt.Scale(zero=False)),
            color=alt.Color(
                "which:N",
                scale=alt.Scale(domain=[say(msg("before")), say(msg("after"))], range=[before, after]),
                legend=alt.Legend(title=None, orient="top"),
            ),
            tooltip=[
                alt.Tooltip("when:N", title=say(msg("when"))),
                alt.Tooltip("which:N", title=say(msg("ranking"))),
                alt.Tooltip("value:Q", title=name, format=".3f"),
                alt.Tooltip("model:N", title=say(msg("rerank model"))),
                alt.Tooltip("n:Q", title=say(msg("questions"))),
            ],
        )
    )


DRAWN: dict[str, Callable[..., Any]] = {
    "differences": differences,
    "ceilings": ceilings,
    "heat_map": heat_map,
    "systems": systems,
    "over_time": over_time,
}
