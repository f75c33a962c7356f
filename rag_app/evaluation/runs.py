"""Reports that are kept, one JSON file a run, to be compared over time."""

import calendar
import hashlib
import re
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from rag_app.errors import RagError
from rag_app.evaluation.memory import Memory
from rag_app.evaluation.report import Report
from rag_app.types import Search
from rag_app.words import KEEP, msg, nmsg

_NAMED = re.compile(r"\d{8}T\d{6}\.\d{3}-.*\.json")


def keep(folder: Path, report: Report) -> Path:
    """Write a report to a file named by its time and set; return the file. RagError if it cannot be written."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(report.when)) + f".{int(report.when % 1 * 1000):03}"
    path = folder / f"{stamp}-{_slug(report.set)}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_text(report.model_dump_json(context=KEEP), "utf-8")
        partial.replace(path)
    except OSError as error:
        raise RagError(
            msg("{path} cannot be written ({reason})", path=path, reason=error.strerror),
            msg("check RAG_RUNS_PATH and its permissions"),
        ) from None
    return path


def keep_searches(memory: Memory, report: Report, searches: Mapping[str, Search]) -> None:
    """Keep the searches that a report was made from, by the ids of their questions. RagError if the memory is full."""
    memory.keep_searches(_identity(report), searches)


def measured(folder: Path, report: Report, question: str) -> Search:
    """Return the search of a question as it was measured for a kept report, by the question's id.

    No endpoint and no store is used, so the collection may have changed or gone. RagError if the run does not have it.
    """
    with Memory(folder) as memory:
        return memory.search_of(_identity(report), question)


def _identity(report: Report) -> tuple[str, float]:
    return report.set, report.when


def read(path: Path) -> Report:
    """Return a report. RagError if the file is missing or is not a report of this version."""
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RagError(
            msg("{path} cannot be read ({reason})", path=path, reason=error.strerror),
            msg("write it with `rag-app eval --json > {path}`", path=path),
        ) from None
    except ValidationError as error:
        raise RagError(
            nmsg(
                "{path} is not a report of this version ({n} fault)",
                "{path} is not a report of this version ({n} faults)",
                error.error_count(),
                path=path,
            ),
            msg("write it again with `rag-app eval --json`"),
        ) from None


def kept(folder: Path, name: str) -> list[Path]:
    """Return the reports that are kept of a set, the newest first."""
    found = (path for path in folder.glob("*.json") if _NAMED.fullmatch(path.name))
    return sorted((path for path in found if path.stem.partition("-")[2] == _slug(name)), reverse=True)


def _slug(name: str) -> str:
    # Of other sets, names may differ in what a file name cannot have.
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:6]
    slug = re.sub(r"\W+", "-", name).strip("-")[:60]
    return f"{slug}-{digest}"


def when(path: Path) -> float:
    """Return when a kept report was made, in seconds since 1970, to the second."""
    return float(calendar.timegm(time.strptime(path.name[:15], "%Y%m%dT%H%M%S")))
