"""Reports that are kept, one JSON file a run, to be compared over time."""

import calendar
import re
import time
from pathlib import Path

from pydantic import ValidationError

from rag_app.errors import RagError
from rag_app.evaluation.report import Report
from rag_app.words import KEEP

_NAMED = re.compile(r"\d{8}T\d{6}\.\d{3}-.*\.json")


def keep(folder: Path, report: Report) -> Path:
    """Write a report down under its time and set."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(report.when)) + f"{report.when % 1:.3f}"[1:]
    path = folder / f"{stamp}-{_slug(report.set)}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_text(report.model_dump_json(context=KEEP), "utf-8")
        partial.replace(path)
    except OSError as error:
        raise RagError(f"{path} cannot be written ({error.strerror}): check RAG_RUNS_PATH and its permissions") from None
    return path


def read(path: Path) -> Report:
    """Return a report. RagError if it is not there or none."""
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RagError(f"{path} cannot be read ({error.strerror}): write it with `rag-app eval --json > {path}`") from None
    except ValidationError as error:
        raise RagError(
            f"{path} is no report of this version ({error.error_count()} faults): write it anew with `rag-app eval --json`"
        ) from None


def kept(folder: Path, name: str) -> list[Path]:
    """Return the reports that are kept of a set, the newest first."""
    found = (path for path in folder.glob("*.json") if _NAMED.fullmatch(path.name))
    return sorted((path for path in found if path.stem.partition("-")[2] == _slug(name)), reverse=True)


def _slug(name: str) -> str:
    return re.sub(r"\W+", "-", name).strip("-")[:60]


def when(path: Path) -> float:
    """Return when a kept report was made, in seconds since 1970, to the second."""
    return float(calendar.timegm(time.strptime(path.name[:15], "%Y%m%dT%H%M%S")))
