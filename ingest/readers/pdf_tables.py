"""Tables on a PDF page, told by the lines that rule them."""

import ctypes
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pypdfium2
import pypdfium2.raw as pdfium

# What counts as the same place, in points; a line is thinner than two of it.
NEAR = 2.0
# No column is narrower.
PADDING = 7.0
# A page with more lines is a drawing.
MAX_EDGES = 4000


@dataclass(frozen=True)
class Table:
    """A ruled table: where it stands on the page, where its columns begin and end, and the text of its cells."""

    left: float
    bottom: float
    right: float
    top: float
    columns: tuple[float, ...]
    rows: list[list[str]]

    def holds(self, x: float, y: float) -> bool:
        """Say whether a point lies in the table."""
        return self.left - NEAR <= x <= self.right + NEAR and self.bottom - NEAR <= y <= self.top + NEAR

    def same_columns(self, other: "Table") -> bool:
        """Say whether another table's columns stand in the same places, as those of one that goes on on the next page."""
        pairs = zip(self.columns, other.columns, strict=False)
        return len(self.columns) == len(other.columns) and all(abs(a - b) <= 2 * NEAR for a, b in pairs)


@dataclass(frozen=True)
class _Edge:
    """A line along the page: upright at `at` from `start` to `end`, or level."""

    upright: bool
    at: float
    start: float
    end: float


def ruled_tables(page: pypdfium2.PdfPage, words: pypdfium2.PdfTextPage) -> list[Table]:
    """Return the tables of a page of two columns and two rows or more, from the top of the page down.

    Lines rule each cell, or only the rows: then the gaps between its words tell its columns.
    """
    edges = list(dict.fromkeys(_edges(page)))
    if not 3 <= len(edges) <= MAX_EDGES:
        return []
    found = [table for group in _groups(edges) if (table := _table(group, words)) is not None]
    alone = [edge for edge in edges if not edge.upright and not any(table.holds(edge.start + 1, edge.at) for table in found)]
    found += [table for group in _stacks(alone) if (table := _open_table(group, words)) is not None]
    return sorted(found, key=lambda table: -table.top)


def _edges(page: pypdfium2.PdfPage) -> Iterator[_Edge]:
    for shape in page.get_objects([pdfium.FPDF_PAGEOBJ_PATH], max_depth=1):
        count = pdfium.FPDFPath_CountSegments(shape.raw)
        if count > MAX_EDGES:
            continue
        left, bottom, right, top = shape.get_bounds()
        if right - left < 2 * NEAR or top - bottom < 2 * NEAR:
            yield from _edge(left, bottom, right, top)
            continue
        matrix = shape.get_matrix()
        last, began = (0.0, 0.0), (0.0, 0.0)
        for i in range(count):
            segment = pdfium.FPDFPath_GetPathSegment(shape.raw, i)
            x, y = ctypes.c_float(), ctypes.c_float()
            pdfium.FPDFPathSegment_GetPoint(segment, x, y)
            point = matrix.on_point(x.value, y.value)
            kind = pdfium.FPDFPathSegment_GetType(segment)
            if kind == pdfium.FPDF_SEGMENT_MOVETO:
                began = point
            elif kind == pdfium.FPDF_SEGMENT_LINETO:
                yield from _edge(last[0], last[1], point[0], point[1])
            if pdfium.FPDFPathSegment_GetClose(segment):
                yield from _edge(point[0], point[1], began[0], began[1])
            last = point


def _edge(x0: float, y0: float, x1: float, y1: float) -> Iterator[_Edge]:
    wide, high = abs(x1 - x0), abs(y1 - y0)
    if wide < 2 * NEAR < high:
        yield _Edge(True, round((x0 + x1) / 2, 1), round(min(y0, y1), 1), round(max(y0, y1), 1))
    elif high < 2 * NEAR < wide:
        yield _Edge(False, round((y0 + y1) / 2, 1), round(min(x0, x1), 1), round(max(x0, x1), 1))


def _groups(edges: list[_Edge]) -> Iterator[list[_Edge]]:
    """Yield the edges that meet each other, directly or by others."""
    upright = sorted((edge for edge in edges if edge.upright), key=lambda edge: edge.at)
    level = [edge for edge in edges if not edge.upright]
    group = {edge: i for i, edge in enumerate(edges)}
    parent = list(range(len(edges)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    places = [edge.at for edge in upright]
    for line in level:
        crossing = upright[bisect_left(places, line.start - NEAR) : bisect_right(places, line.end + NEAR)]
        for edge in crossing:
            if edge.start - NEAR <= line.at <= edge.end + NEAR:
                parent[root(group[line])] = root(group[edge])
    together: dict[int, list[_Edge]] = defaultdict(list)
    for edge in edges:
        together[root(group[edge])].append(edge)
    yield from together.values()


def _places(edges: list[_Edge], *, upright: bool) -> list[float]:
    """Return where lines of one direction stand; of those near each other, as around a shaded word, the longest."""
    lengths: dict[float, float] = defaultdict(float)
    for edge in edges:
        if edge.upright == upright:
            lengths[edge.at] += edge.end - edge.start
    near = PADDING if upright else 2 * NEAR
    groups: list[list[float]] = []
    for at in sorted(lengths):
        if groups and at - groups[-1][-1] <= near:
            groups[-1].append(at)
        else:
            groups.append([at])
    return [max(group, key=lambda at: lengths[at]) for group in groups]


def _table(edges: list[_Edge], words: pypdfium2.PdfTextPage) -> Table | None:
    columns, lines = _places(edges, upright=True), _places(edges, upright=False)[::-1]
    if len(columns) < 3 or len(lines) < 3:
        return None
    upright = [edge for edge in edges if edge.upright]
    rows = []
    for top, bottom in pairwise(lines):
        middle = (top + bottom) / 2
        walls = [edge.at for edge in upright if edge.start - NEAR <= middle <= edge.end + NEAR]
        row, left = [""] * (len(columns) - 1), 0
        for i in range(1, len(columns)):
            # A cell goes on to the next column's line that stands in this row.
            if i == len(columns) - 1 or any(abs(wall - columns[i]) <= PADDING for wall in walls):
                text = words.get_text_bounded(columns[left], bottom, columns[i], top)
                row[left] = " ".join(text.replace("\ufffe\r\n", "").replace("\ufffe", "").split())
                left = i
        rows.append(row)
    rows = [row for row in rows if any(row)]
    cells = sum(map(len, rows))
    filled = sum(bool(cell) for row in rows for cell in row)
    # A form's or a drawing's boxes are no table.
    if len(rows) < 2 or filled < cells / 2:
        return None
    return Table(columns[0], lines[-1], columns[-1], lines[0], tuple(columns), rows)


def _stacks(level: list[_Edge]) -> Iterator[list[float]]:
    """Yield where three or more level lines of the same length stand below each other: left, right, then from the top down."""
    stacks: dict[tuple[int, int], list[_Edge]] = defaultdict(list)
    for edge in level:
        stacks[round(edge.start / NEAR), round(edge.end / NEAR)].append(edge)
    for edges in stacks.values():
        lines = _places(edges, upright=False)[::-1]
        if len(lines) > 2 and edges[0].end - edges[0].start > 100:
            yield [edges[0].start, edges[0].end, *lines]


def _open_table(place: list[float], words: pypdfium2.PdfTextPage) -> Table | None:
    left, right, top, below, *_ = place
    bottom = place[-1]
    boxes = [
        box
        for i, character in enumerate(words.get_text_range())
        if not character.isspace()
        and (box := words.get_charbox(i))
        and left - NEAR <= box[0] <= right + NEAR
        and bottom <= box[1] <= top
    ]
    # Where no character stands, a column ends.
    taken = sorted((box[0], box[2]) for box in boxes)
    columns, reach = [left - NEAR], taken[0][1] if taken else 0.0
    for start, end in taken:
        if start - reach > 3 * NEAR:
            columns.append((start + reach) / 2)
        reach = max(reach, end)
    columns.append(right + NEAR)
    if not 3 <= len(columns) <= 20:
        return None
    # Three lines are those above, below the header and at the end; more of them are one below each row.
    lines = place[2:] if len(place) > 5 else [top, below, *_between([box for box in boxes if box[3] < below]), bottom]
    rows: list[list[str]] = []
    for high, low in pairwise(lines):
        row = [" ".join(words.get_text_bounded(a, low, b, high).replace("\ufffe", "").split()) for a, b in pairwise(columns)]
        if rows[1:] and not row[0]:
            # A line without a first cell goes on with the row above it.
            rows[-1] = [f"{cell} {more}".strip() for cell, more in zip(rows[-1], row, strict=True)]
        elif any(row):
            rows.append(row)
    if len(rows) < 3 or sum(bool(cell) for row in rows for cell in row) < 0.7 * sum(map(len, rows)):
        return None
    return Table(left, bottom, right, top, tuple(columns), rows)


def _between(boxes: list[tuple[float, float, float, float]]) -> list[float]:
    """Return the heights between lines of text, from the top down."""
    heights, reach = list[float](), 0.0
    for _, low, _, high in sorted(boxes, key=lambda box: -box[3]):
        if reach and high < reach:
            heights.append((high + reach) / 2)
            reach = low
        reach = min(reach, low) if reach else low
    return heights
