"""The house: who may import whom, one module for one outside thing, and files that must agree."""

import ast
from pathlib import Path

import pytest
from pydantic import SecretStr

from rag_app.settings import Settings
from tests.conftest import ROOT

# Each room may import those before it.
ROOMS = [
    "rag_app.types",
    "rag_app.builtin",
    "rag_app.language",
    "rag_app.endpoint",
    "rag_app.settings",
    "rag_app.connection",
    "rag_app.embeddings",
    "rag_app.rerank_wire",
    "rag_app.rerank",
    "rag_app.prompt",
    "rag_app.openai_client",
    "rag_app.chat",
    "rag_app.store",
    "rag_app.jsonl",
    "rag_app.labels",
    "rag_app.feedback",
    "rag_app.price",
    "rag_app.export",
    "rag_app.builtin.models",
    "rag_app.builtin.extractive",
    "rag_app.builtin.app",
    "rag_app.builtin.server",
    "rag_app.pipeline",
    "rag_app.evaluation.memory",
    "rag_app.evaluation.trec",
    "rag_app.evaluation.measures",
    "rag_app.evaluation.statistics",
    "rag_app.evaluation.differences",
    "rag_app.evaluation.sets",
    "rag_app.evaluation.running",
    "rag_app.evaluation.answers",
    "rag_app.evaluation.verdict",
    "rag_app.evaluation.sweep",
    "rag_app.evaluation.report",
    "rag_app.evaluation.runs",
    "rag_app.evaluation.comparing",
    "rag_app.evaluation.drafts",
    "rag_app.evaluation.charts",
    "rag_app.evaluation.html",
    "rag_app.doctor",
    "ingest.document",
    "ingest.encoding",
    "ingest.package",
    "ingest.html",
    "ingest.plain",
    "ingest.office",
    "ingest.epub",
    "ingest.mail",
    "ingest.pdf_tables",
    "ingest.pdf",
    "ingest.load",
    "ingest.chunk",
    "ingest.worker",
    "ingest.files",
    "ingest.lock",
    "ingest.planning",
    "ingest.sync",
    "ingest.beir",
    "rag_app.evaluation.bench",
    "ingest.uploads",
    "ingest.jobs",
    "rag_app.page.chinese",
    "rag_app.page.words",
    "rag_app.page.hostile",
    "rag_app.page.server",
    "rag_app.page.states",
    "rag_app.page.resources",
    "rag_app.page.answers",
    "rag_app.page.movement",
    "rag_app.page.asking",
    "rag_app.page.evidence",
    "rag_app.page.result",
    "rag_app.page.ask",
    "rag_app.page.documents",
    "rag_app.page.connections",
    "rag_app.page.labelling",
    "rag_app.page.report",
    "rag_app.page.evaluate",
    "rag_app.page.layout",
    "rag_app.page.app",
    "rag_app.terminal",
    "ingest.commands",
    "rag_app.evaluation.showing",
    "rag_app.evaluation.commands",
    "rag_app.cli",
    "ingest.__main__",
]
OWNERS = {
    "chromadb": "rag_app/store.py",
    "openai": "rag_app/openai_client.py",
    "httpx": "rag_app/connection.py rag_app/store.py",
    "onnxruntime": "rag_app/builtin/models.py",
    "starlette": "rag_app/builtin/app.py rag_app/page/server.py",
    "altair": "rag_app/evaluation/charts.py rag_app/page/movement.py",
    "markdown_it": "ingest/html.py rag_app/page/hostile.py",
    "py3langid": "rag_app/language.py",
    "sentencex": "rag_app/language.py",
    "pydantic_settings": "rag_app/settings.py",
    "typer": "rag_app/cli.py rag_app/terminal.py rag_app/evaluation/commands.py ingest/commands.py",
    "pebble": "ingest/worker.py",
    "pathspec": "ingest/files.py",
    "filelock": "ingest/lock.py rag_app/jsonl.py",
    "pytrec_eval": "rag_app/evaluation/measures.py",
    "scipy": "rag_app/evaluation/statistics.py",
    "vl_convert": "rag_app/evaluation/html.py",
    "jinja2": "rag_app/evaluation/html.py",
    "watchfiles": "ingest/commands.py",
}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted([*(ROOT / "rag_app").rglob("*.py"), *(ROOT / "ingest").rglob("*.py")]):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = path
    return found


def imports(path: Path) -> set[str]:
    """Return every module that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def test_every_room_is_in_the_list() -> None:
    assert set(modules()) - {"rag_app", "ingest", "rag_app.page", "rag_app.evaluation"} == set(ROOMS)


@pytest.mark.parametrize("name", ROOMS)
def test_imports_point_one_way(name: str) -> None:
    ours = {module for module in imports(modules()[name]) if module in ROOMS}
    assert ours <= set(ROOMS[: ROOMS.index(name)])


def test_rag_app_imports_ingest_only_in_its_outermost_layer() -> None:
    users = {name for name, path in modules().items() if any(module.split(".")[0] == "ingest" for module in imports(path))}
    outermost = {
        "rag_app.cli",
        "rag_app.evaluation.bench",
        "rag_app.evaluation.commands",
        "rag_app.page.documents",
        "rag_app.page.resources",
    }
    assert {name for name in users if name.startswith("rag_app")} == outermost


def test_only_the_pages_know_streamlit_and_no_page_retrieves() -> None:
    pages = {name for name in ROOMS if name.startswith("rag_app.page.")}
    users = {name for name, path in modules().items() if any(m.split(".")[0] == "streamlit" for m in imports(path))}
    assert users <= pages
    stages = {"rag_app.rerank", "rag_app.embeddings", "rag_app.openai_client", "rag_app.connection"}
    assert not {name for name in pages for module in imports(modules()[name]) if module in stages}


@pytest.mark.parametrize("package", OWNERS)
def test_one_module_owns_one_outside_thing(package: str) -> None:
    users = [
        str(path.relative_to(ROOT))
        for path in modules().values()
        if any(module.split(".")[0] == package for module in imports(path))
    ]
    assert sorted(users) == sorted(OWNERS[package].split())


def test_env_example_lists_every_setting_with_its_default_and_one_comment() -> None:
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    found = {
        lines[i].partition("=")[0]: (lines[i].partition("=")[2], lines[i - 1])
        for i, line in enumerate(lines)
        if "RAG_" in line and line[0] != "#"
    }
    expected = {}
    for name, field in Settings.model_fields.items():
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        expected[f"RAG_{name.upper()}"] = ("" if default is None else str(default), f"# {field.description}")
    assert found == expected


def test_the_lock_file_has_hashes_and_no_addresses() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    assert "://" not in lock and "index-url" not in lock
    pinned = [block for block in lock.split("\n") if block and block[0] not in " #"]
    assert len(pinned) > 50 and all("==" in line and line.endswith("\\") for line in pinned)
