"""What all tests share: a clean environment, a folder of their own, a gateway on loopback, a small corpus."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from rag_app.pipeline import Pipeline
from rag_app.settings import Settings, load_settings
from rag_app.store import kept
from tests.browsing import VISITED, browser, visit
from tests.helpers import ROOT, ingest_into
from tests.listening import free_port, listening
from tests.wire import Wire, serve

__all__ = ["browser", "visit"]

C = TypeVar("C", bound="Closes")


class Closes(Protocol):
    def close(self) -> None: ...


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report of a failed journey what its pages showed."""
    report = yield
    if report.when == "call" and report.failed:
        for context in item.stash.get(VISITED, []):
            for page in context.pages:
                report.sections.append((page.url, page.locator("body").inner_text()))
    return report


@pytest.fixture
def keep() -> Iterator[Callable[[C], C]]:
    """Return a function that closes what it is given when the test ends, and returns it."""
    with ExitStack() as opened:
        yield lambda one: opened.enter_context(closing(one))


@pytest.fixture(autouse=True)
def keepers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keepers in threads of the tests' process, which has Chroma imported: tests/test_keeper.py has real ones."""
    from rag_app.store import keeper

    class Thread(threading.Thread):
        def poll(self) -> int | None:
            return None if self.is_alive() else 0

    def start(folder: Path) -> Thread:
        thread = Thread(target=keeper.serve, args=(folder, 0.1), daemon=True)
        thread.start()
        return thread

    monkeypatch.setattr(kept, "START", start)


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No RAG_ variable, no .env, English: each test starts in an empty folder with the defaults."""
    for name in os.environ:
        if name.upper().startswith("RAG_") or name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A scripted gateway."""
    with serve() as wire:
        yield wire


@pytest.fixture
def settings(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that point all three stages at the scripted gateway, in the environment too."""
    for name, value in {"BASE_URL": wire.url, "API_KEY": "sk-secret", "EMBEDDING_MODEL": "emb", "RERANK_MODEL": "rr"}.items():
        monkeypatch.setenv(f"RAG_{name}", value)
    monkeypatch.setenv("RAG_CHAT_MODEL", "chat")
    return load_settings()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three small documents."""
    folder = tmp_path / "docs"
    (folder / "policies").mkdir(parents=True)
    (folder / "policies" / "travel.md").write_text(
        "# Travel policy\n\nEvery trip is approved by the manager.\n\n## Dinner\n\nDinner is paid up to 32 EUR in France.\n\n"
        "## Hotels\n\nA hotel may cost 150 EUR a night.\n"
    )
    (folder / "parking.html").write_text(
        "<html><head><title>Parking</title></head><body><nav>Home</nav><h1>Parking</h1><p>A space costs 20 EUR a month.</p>"
        "<table><tr><th>Site</th><th>Spaces</th></tr><tr><td>Jena</td><td>120</td></tr></table></body></html>"
    )
    (folder / "notes.txt").write_text("The canteen opens at eleven.\n\nIt closes at two.\n")
    return folder


@pytest.fixture(scope="session")
def sample_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample corpus, ingested once with the built-in models; the folder of its Chroma."""
    path = tmp_path_factory.mktemp("sample") / "chroma"
    settings = Settings(_env_file=None, chroma_path=path)  # type: ignore[call-arg]
    ingest_into(settings, ROOT / "data" / "corpus")
    return path


@pytest.fixture
def sample(sample_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings for the sample corpus with built-in models; a copy, so that a test may change it."""
    path = tmp_path / "chroma"
    shutil.copytree(sample_store, path, ignore=shutil.ignore_patterns("keeper.*"))
    monkeypatch.setenv("RAG_CHROMA_PATH", str(path))
    return load_settings()


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real `chroma run` server on a free port; its URL."""
    port, folder = free_port(), tmp_path_factory.mktemp("chroma-server")
    chroma = str(Path(sys.executable).with_name("chroma"))
    with listening([chroma, "run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(port)], port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody signed but itself, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl, which makes the certificates, is not here")
    made = tmp_path / "ca.pem", tmp_path / "key.pem"
    whose = ["-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        *whose,
        "-out",
        str(made[0]),
        "-keyout",
        str(made[1]),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return made


@pytest.fixture
def pipeline(settings: Settings, corpus: Path) -> Iterator[Pipeline]:
    """A pipeline over these documents."""
    ingest_into(settings, corpus)
    with Pipeline.open(settings) as pipeline:
        yield pipeline
