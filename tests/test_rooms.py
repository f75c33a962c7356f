"""The house: who may import whom, one module for one outside thing, and files that must agree."""

import ast
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from pydantic import SecretStr

from rag_app import colours
from rag_app.cli import app
from rag_app.settings import Settings
from tests.helpers import ROOT

# From the ground up: a room imports from its own layer and those below, and within a layer there are no circles.
LAYERS = [
    # What every room may know: records, errors, settings, words of the trade; where an endpoint is, which settings name.
    {
        "rag_app.types",
        "rag_app.errors",
        "rag_app.extras",
        "rag_app.words",
        "rag_app.colours",
        "rag_app.builtin",
        "rag_app.language",
        "rag_app.endpoints.failures",
        "rag_app.endpoints.endpoint",
        "rag_app.settings",
        "rag_app.prompt",
        "rag_app.price",
        "rag_app.export",
        "rag_app.labels",
    },
    {
        "rag_app.endpoints",
        "rag_app.store",
        "rag_app.builtin.models",
        "rag_app.builtin.extractive",
        "rag_app.builtin.gateway",
        "rag_app.builtin.server",
    },
    {"rag_app.lexical"},
    {"rag_app.retrieval", "rag_app.plan", "rag_app.pipeline"},
    {"rag_app.doctor", "rag_app.evaluation", "ingest"},
    {"rag_app.cli", "rag_app.page", "ingest.__main__"},
]
# Neither imports the other: who needs both is outermost, and hands a function in.
APART = [("rag_app.evaluation", "ingest"), ("rag_app.cli", "rag_app.page")]
OWNERS = {
    "chromadb": "rag_app/store/chroma_client.py",
    "openai": "rag_app/endpoints/openai_client.py",
    "httpx": "rag_app/endpoints/http.py rag_app/store/chroma_client.py",
    "onnxruntime": "rag_app/builtin/models.py",
    "starlette": "rag_app/builtin/gateway.py rag_app/page/originals.py",
    "altair": "rag_app/evaluation/charts.py rag_app/page/movement.py",
    "markdown_it": "ingest/readers/html.py rag_app/page/hostile.py",
    "py3langid": "rag_app/language.py",
    "sentencex": "rag_app/language.py",
    "pydantic_settings": "rag_app/settings.py",
    "typer": " ".join(f"rag_app/cli/{name}.py" for name in ("app", "corpus", "drafting", "measuring", "storing", "terminal")),
    "pebble": "ingest/worker.py",
    "pathspec": "ingest/files.py",
    "tantivy": "rag_app/lexical/index.py",
    "filelock": "rag_app/labels/jsonl.py rag_app/lexical/kept.py "
    + " ".join(f"rag_app/store/{name}.py" for name in ("keeper", "kept", "locks")),
    "pytrec_eval": "rag_app/evaluation/measures.py",
    "scipy": "rag_app/evaluation/statistics.py",
    "vl_convert": "rag_app/evaluation/html_report.py",
    "jinja2": "rag_app/evaluation/html_report.py",
    "babel": "rag_app/words.py",
    "watchfiles": "rag_app/cli/corpus.py",
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


def layer_of(module: str) -> int | None:
    """Return the layer of a module: that of the longest name which it is or is below; None for what is not a module of ours."""
    places = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    parts = module.split(".")
    return next((places[name] for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in places), None)


def is_below(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def test_every_module_has_a_layer() -> None:
    assert [name for name in modules() if layer_of(name) is None] == ["rag_app"]


@pytest.mark.parametrize("name", modules())
def test_imports_point_down(name: str) -> None:
    above = {module for module in imports(modules()[name]) if (layer_of(module) or 0) > (layer_of(name) or 0)}
    assert not above or name == "rag_app"


@pytest.mark.parametrize(("one", "other"), APART)
def test_rooms_of_one_layer_stay_apart(one: str, other: str) -> None:
    for room, forbidden in ((one, other), (other, one)):
        users = {name for name, path in modules().items() if is_below(name, room) and name != "ingest.__main__"}
        assert not {name for name in users for module in imports(modules()[name]) if is_below(module, forbidden)}


def test_imports_have_no_circle() -> None:
    # The package itself only names what is in its modules, and loads it when it is used.
    known = {name: path for name, path in modules().items() if name != "rag_app"}
    graph = {name: {module for module in imports(path) if module in known} - {name} for name, path in known.items()}
    TopologicalSorter(graph).prepare()


def test_only_the_pages_know_streamlit_and_no_page_retrieves() -> None:
    pages = {name for name in modules() if is_below(name, "rag_app.page")}
    users = {name for name, path in modules().items() if any(m.split(".")[0] == "streamlit" for m in imports(path))}
    assert users <= pages
    stages = {f"rag_app.endpoints.{stage}" for stage in ("rerank", "embeddings", "openai_client", "http")}
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
        written = str(default).lower() if default is True else "" if default is None else str(default)
        expected[f"RAG_{name.upper()}"] = (written, f"# {field.description}")
    assert found == expected


def test_the_colours_stand_in_one_place() -> None:
    """The style sheets take theirs from it; the theme and the terminal, which cannot or do not, have the same."""
    chosen = {colour for name in ("GAIN", "KEPT", "LOSS", "UNUSED", "SAME") for colour in getattr(colours, name)}
    files = [p for p in (ROOT / "rag_app").rglob("*") if p.suffix in (".py", ".css", ".jinja") and p.name != "colours.py"]
    found = {str(p.relative_to(ROOT)) for p in files for colour in chosen if colour.lower() in p.read_text("utf-8").lower()}
    assert found <= {"rag_app/cli/app.py"}
    assert {"promoted": colours.GAIN[0], "kept": colours.KEPT[0], "lost": colours.LOSS[0]} == app.COLOURS
    theme = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text("utf-8"))["theme"]
    for key, variable in {"primaryColor": "accent", "linkColor": "accent", "secondaryBackgroundColor": "tint"}.items():
        assert f"--{variable}: light-dark({theme['light'][key]}, {theme['dark'][key]});" in colours.CSS
    assert theme["dark"]["textColor"] == colours.INK[1]


def test_the_lock_file_has_hashes_and_no_addresses() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    assert "://" not in lock and "index-url" not in lock
    pinned = [block for block in lock.split("\n") if block and block[0] not in " #"]
    assert len(pinned) > 50 and all("==" in line and line.endswith("\\") for line in pinned)
