"""What tests share beside fixtures: where things are, and short ways to run the program and to make its parts."""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from babel.messages.extract import extract_from_dir
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from ingest import sync
from ingest.planning import look_through
from ingest.sync import Report
from rag_app.cli.app import app
from rag_app.endpoints.embeddings import Embeddings
from rag_app.endpoints.endpoint import Endpoint, Stage
from rag_app.endpoints.opening import open_embeddings
from rag_app.settings import Settings
from rag_app.store.opening import open_store
from rag_app.store.protocol import Store
from rag_app.types import Candidate, Ranking
from tests.wire import Wire

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

# As in the Makefile's `words`.
KEYWORDS = {"msg": None, "nmsg": (1, 2), "pmsg": ((1, "c"), 2), "t": None}

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the folder ../shared with reference data is not here")


def ingest(paths: Sequence[Path], store: Store, embeddings: Embeddings, **options: Any) -> Report:
    """Ingest paths as the command does."""
    return sync.ingest(look_through(paths, store, force=options.get("force", False)), store, embeddings, **options)


def ingest_into(settings: Settings, *paths: Path) -> Report:
    """Ingest paths into the collection that the settings name, as the command does."""
    cutting, limits = sync.cutting_and_limits(settings)
    with open_store(settings, create=True) as store, closing(open_embeddings(settings)) as embeddings:
        return ingest(paths, store, embeddings, cutting=cutting, limits=limits)


def run(*args: str) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def environment(**env: str) -> dict[str, str]:
    """Return the environment of this process, with the source tree on its path, and more."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **env}


def command(*args: str | Path, **env: str) -> "subprocess.Popen[str]":
    """Start the real command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "rag_app.cli.app", *map(str, args)],
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def endpoint(wire: Wire, stage: Stage, path: str = "", key: str = "sk-secret") -> Endpoint:
    return Endpoint(stage, stage.lower(), wire.url + path, "m", SecretStr(key), timeout=5)


def candidates(*texts: str) -> list[Candidate]:
    return [
        Candidate(
            id=f"c{i}",
            document=f"{i}.md",
            title=f"Document {i}",
            headings=("Part",),
            page=None,
            position=0,
            start=0,
            end=1,
            language="en",
            text=text,
            retrieval=Ranking(rank=i + 1, score=1 - i / 10),
        )
        for i, text in enumerate(texts)
    ]


@lru_cache
def extracted() -> set[tuple[str, str | tuple[str, ...]]]:
    """Return (context, text) of every message in the code, wherever it stands; a text that counts is a pair."""
    found = set()
    for room in ("rag_app", "ingest"):
        methods = [("**.py", "python"), ("**.jinja", "jinja2.ext:babel_extract")]
        for _, _, text, _, context in extract_from_dir(ROOT / room, methods, keywords=KEYWORDS):
            found.add((context or "", text))
    return found
