"""OCR by RapidOCR, whose wheel carries its models: English, Chinese, German and more, at 5 to 10 seconds of a core a page."""

import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean, median
from typing import Any

import numpy as np
from PIL import Image, ImageOps, ImageSequence

from ingest.readers.document import Block, Read
from ingest.readers.ocr import UNSURE, Ocr
from ingest.readers.pdf_text import join_lines

# The most pixels along a picture: more is no better read.
MAX_SIDE = 2400
# A line of a lower score is noise.
NOISE = 0.3
# Type so much larger than most is a heading.
LARGER = 1.5
# Processes of an ingest that share the machine.
_SHARE = 2


def read_image(content: bytes, ocr: Ocr) -> Read:
    """A photograph or scan, of several pages too (TIFF). EmptyError if there is no text in it."""
    with Image.open(io.BytesIO(content)) as picture:
        frames = ImageSequence.Iterator(picture) if n_pages(picture) > 1 else [picture]
        blocks = [
            block
            for number, frame in enumerate(frames, 1)
            for block in ocr.page(number, lambda frame=frame: ImageOps.exif_transpose(frame))  # type: ignore[misc]
        ]
    if not blocks:
        raise ocr.nothing()
    return "", [*blocks, *ocr.notes()]


def n_pages(picture: Image.Image) -> int:
    """Return how many pages a picture has: of what moves, and of a photograph with a copy of its own, the first is enough."""
    return getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1


def opaque(picture: Image.Image) -> Image.Image:
    """Return a picture in colours of eight bits, what is transparent on white."""
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).astype(float)
        low, high = float(levels.min()), float(levels.max())
        return Image.fromarray(((levels - low) * 255 / max(high - low, 1)).astype("uint8")).convert("RGB")
    if picture.has_transparency_data:
        above = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), above).convert("RGB")
    return picture.convert("RGB")


@dataclass(frozen=True)
class _Box:
    """A line or part of one: its text with its score, and where it stands on the upright page."""

    text: str
    score: float
    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


@cache
def _engine() -> Any:
    """Return the models, loaded once in a process; no other is named than those in the wheel, so nothing is fetched."""
    from rapidocr import RapidOCR

    params = {
        "Global.log_level": "error",
        "Global.text_score": NOISE,
        "Global.max_side_len": MAX_SIDE,
        "Global.use_cls": False,
        # Lines are found on a smaller copy, and read at full size.
        "Det.limit_type": "max",
        "Det.limit_side_len": 1280,
        "EngineConfig.onnxruntime.intra_op_num_threads": max(1, (os.cpu_count() or 1) // _SHARE),
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    return RapidOCR(params=params)


Found = list[tuple[str, float, np.ndarray[Any, Any]]]


def _found(picture: Image.Image) -> Found:
    # It takes its colours in the order of OpenCV.
    result = _engine()(np.ascontiguousarray(np.asarray(picture)[:, :, ::-1]))
    return list(zip(result.txts or (), result.scores or (), [] if result.boxes is None else result.boxes, strict=True))


def _score(found: Iterable[tuple[str, float, Any]]) -> float:
    """Return the mean score of a page's letters."""
    weights = [(len(text), score) for text, score, _ in found]
    return sum(n * score for n, score in weights) / max(sum(n for n, _ in weights), 1)


def read_picture(picture: Image.Image, page: int) -> tuple[list[Block], float]:
    """Return what stands on a picture in reading order, and the mean score of its letters; one on its side is turned."""
    picture = opaque(picture)
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    found = _found(picture)
    spans = [box.max(0) - box.min(0) for _, _, box in found]
    letters = sum(len(text) for text, _, _ in found)
    upright = 2 * sum(len(text) for (text, _, _), (w, h) in zip(found, spans, strict=True) if h > 1.5 * w) <= letters
    if found and (not upright or _score(found) < UNSURE):
        turned = [_found(picture.rotate(degrees, expand=True)) for degrees in ((180,) if upright else (90, 270))]
        found = max([*turned, *([found] if upright else [])], key=_score)
    boxes = list(_upright(found))
    rows = _rows(boxes, median(box.height for box in boxes)) if boxes else []
    return list(_blocks(rows, page)), _score(found)


def _upright(found: Found) -> Iterator[_Box]:
    """Yield boxes as they stand once the page's slant is taken out."""
    widths = [float(np.hypot(*(box[1] - box[0]))) for _, _, box in found]
    usual = median(widths) if widths else 0.0
    # Long lines tell it best.
    slants = [math.atan2(*(box[1] - box[0])[::-1]) for (_, _, box), width in zip(found, widths, strict=True) if width >= usual]
    cos, sin = (math.cos(-median(slants)), math.sin(-median(slants))) if slants else (1.0, 0.0)
    for text, score, box in found:
        corners = box @ np.array([[cos, sin], [-sin, cos]])
        left, top, right, bottom = map(float, (*corners.min(0), *corners.max(0)))
        # They are drawn with a margin, so that those of neighbouring lines overlap.
        inside, beside = 0.12 * (bottom - top), 0.2 * (bottom - top)
        yield _Box(text, float(score), left + beside, top + inside, right - beside, bottom - inside)


def _rows(boxes: Sequence[_Box], height: float) -> list[list[_Box]]:
    """Return lines in reading order: column after column where each has running text, below what stands over both."""
    columns = _parted(boxes, lambda box: (box.left, box.right), 0.5 * height)
    # Columns of a table are narrow.
    if len(columns) > 1 and all(sum(box.right - box.left > 8 * height for box in column) >= 3 for column in columns):
        return [row for column in columns for row in _rows(column, height)]
    bands = _parted(boxes, lambda box: (box.top, box.bottom), 0)
    left, right = min(box.left for box in boxes), max(box.right for box in boxes)
    groups: list[list[_Box]] = [[]]
    for band in bands:
        first = band[0]
        wide = first.right - first.left > 0.6 * (right - left) or abs(first.left + first.right - left - right) < 2 * height
        if len(band) == 1 and first.left < (left + right) / 2 < first.right and wide:
            groups += [band, []]
        else:
            groups[-1] += band
    groups = [group for group in groups if group]
    if len(groups) > 1:
        return [row for group in groups for row in _rows(group, height)]
    rows: list[list[_Box]] = []
    for box in sorted(boxes, key=lambda box: box.middle):
        if rows and abs(box.middle - mean(other.middle for other in rows[-1])) < 0.5 * height:
            rows[-1].append(box)
        else:
            rows.append([box])
    return [sorted(row, key=lambda box: box.left) for row in rows]


def _parted(boxes: Iterable[_Box], span: Callable[[_Box], tuple[float, float]], gap: float) -> list[list[_Box]]:
    """Return boxes in groups between which there is a gap, along one axis."""
    groups: list[list[_Box]] = []
    end = 0.0
    for box in sorted(boxes, key=span):
        if not groups or span(box)[0] - end >= gap:
            groups.append([])
        end = max(end, span(box)[1]) if groups[-1] else span(box)[1]
        groups[-1].append(box)
    return groups


def _blocks(rows: Sequence[Sequence[_Box]], page: int) -> Iterator[Block]:
    """Yield paragraphs, which end at a gap, and headings, which are larger than the rest."""
    usual = median(box.height for row in rows for box in row) if rows else 0.0
    large = [max(box.height for box in row) > LARGER * usual for row in rows]
    texts = [" ".join(box.text.strip() for box in row) for row in rows]
    known = set(" ".join(texts).lower().split())
    start = 0
    for n in range(1, len(rows) + 1):
        goes_on = n < len(rows) and large[n] == large[start] and -usual < rows[n][0].top - rows[n - 1][0].bottom < usual
        if not goes_on:
            text = join_lines(iter(texts[start:n]), known)
            yield Block("heading", text, 2, page, ocr=True) if large[start] else Block("paragraph", text, page=page, ocr=True)
            start = n
