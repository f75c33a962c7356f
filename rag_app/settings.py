"""Every knob, read once at the door from the environment and `.env`, then passed inward."""

import difflib
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from dotenv.parser import parse_stream
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from rag_app import builtin
from rag_app.endpoints.endpoint import Endpoint, Stage, openai_base, rerank_url, setting_name
from rag_app.errors import SettingsError
from rag_app.words import Message, joined, msg, nmsg

PREFIX = "RAG_"
# What a collection is called while another is made to replace it, and what it replaced.
RESERVED = ("-reindex", "-replaced")
# By these a question can be limited without being declared.
RESERVED_FIELDS = ("document", "folder", "language")
# Chroma Cloud takes 32 keys, of which folders have 14.
MOST_FIELDS = 8
_RESERVED = ", ".join(RESERVED_FIELDS)
_HEADER = re.compile(r"[A-Za-z0-9-]+")
FieldKind = Literal["text", "int"]
Price = Annotated[float | None, Field(ge=0)]
RerankDialect = Literal["auto", "flat", "top_k", "mixedbread", "tei", "dashscope", "nim"]
# Stage: what its model does, as messages call it; its built-in models, the default first.
STAGES: dict[Stage, tuple[Message, tuple[str, ...]]] = {
    "EMBEDDING": (msg("embeddings"), builtin.EMBEDDING_MODELS),
    "RERANK": (msg("rerank"), builtin.RERANK_MODELS),
    "CHAT": (msg("chat"), (builtin.CHAT_MODEL,)),
}


class WrongValueError(SettingsError, ValueError):
    """A value that a validator refuses; pydantic collects these, and `load_settings` puts the name of the setting first."""


class Settings(BaseSettings):
    """The settings; `.env.example` lists them with their defaults."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_file_encoding="utf-8-sig",
        extra="ignore",
        frozen=True,
    )

    base_url: str = Field("", description="Gateway for all three models; empty = the built-in ones.")
    api_key: SecretStr = Field(SecretStr(""), description="Its key, sent as a Bearer token.")

    embedding_model: str = Field("", description="Embedding model; the collection remembers it.")
    embedding_url: str = Field("", description="Another address for embeddings only; `builtin` = the built-in model.")
    embedding_api_key: SecretStr = Field(SecretStr(""), description="Another key for embeddings only.")
    embedding_question_prefix: str = Field("", description="Text put before a question (bge, e5 and Qwen3 need one).")
    embedding_passage_prefix: str = Field("", description="Text put before a passage (e5 needs one).")
    embedding_input_types: str = Field("", description="What questions and passages are called: query,passage for NIM.")
    embedding_batch_size: int = Field(32, ge=1, le=2048, description="Texts in one embedding request.")
    embedding_concurrency: int = Field(4, ge=1, le=64, description="Embedding requests under way at once.")
    embedding_auth: str = Field("auto", description="How the key is sent: auto, bearer, raw, or the name of a header for it.")
    embedding_headers: Annotated[dict[str, SecretStr], NoDecode] = Field(
        {}, description="JSON object of further headers for the embedding request."
    )
    embedding_parameters: Annotated[dict[str, Any], NoDecode] = Field(
        {}, description="JSON object that is merged into the embedding request; null leaves a field out."
    )
    embedding_timeout: float = Field(60, gt=0, description="Seconds to wait for an embedding request.")

    rerank_model: str = Field("", description="Rerank model.")
    rerank_url: str = Field("", description="Another address for rerank only, base or full URL; `builtin` works too.")
    rerank_api_key: SecretStr = Field(SecretStr(""), description="Another key for rerank only.")
    rerank_timeout: float = Field(30, gt=0, description="Seconds to wait for a rerank request.")
    rerank_deadline: float = Field(45, gt=0, description="Seconds that a rerank may take in all, with its retries.")
    rerank_dialect: RerankDialect = Field("auto", description=f"{', '.join(get_args(RerankDialect))}.")
    rerank_auth: str = Field("auto", description="How the key is sent: auto, bearer, raw, or the name of a header for it.")
    rerank_headers: Annotated[dict[str, SecretStr], NoDecode] = Field(
        {}, description="JSON object of further headers for the rerank request."
    )
    rerank_parameters: Annotated[dict[str, Any], NoDecode] = Field(
        {}, description="JSON object that is merged into the rerank request; null leaves a field out."
    )
    rerank_max_documents: int = Field(0, ge=0, description="Documents in one rerank request; 0 = all (TEI: 32).")
    rerank_max_tokens: int = Field(0, ge=0, description="Tokens of a document, estimated, to send at most; 0 = whole.")
    rerank_min_score: float | None = Field(None, description="Raw rerank score that a passage must reach; empty = any.")
    rerank_images: bool = Field(False, description="Send pictures as pictures: true for multimodal rerank models.")
    rerank_on_failure: Literal["fallback", "error"] = Field("fallback", description="fallback (retrieval order) or error.")

    chat_model: str = Field("", description="Chat model.")
    chat_url: str = Field("", description="Another address for chat only, e.g. an Ollama; `builtin` works too.")
    chat_api_key: SecretStr = Field(SecretStr(""), description="Another key for chat only.")
    chat_auth: str = Field("auto", description="How the key is sent: auto, bearer, raw, or the name of a header for it.")
    chat_headers: Annotated[dict[str, SecretStr], NoDecode] = Field(
        {}, description="JSON object of further headers for the chat request."
    )
    chat_parameters: Annotated[dict[str, Any], NoDecode] = Field(
        {}, description="JSON object that is merged into the chat request; null leaves a field out."
    )
    chat_timeout: float = Field(120, gt=0, description="Seconds to wait for the next piece of an answer.")

    judge_model: str = Field("", description="Chat model that judges answers in `rag-app eval --answers`; empty = none.")

    chroma_path: Path = Field(Path("data/chroma"), description="Folder of the embedded Chroma.")
    chroma_url: str = Field("", description="A Chroma server instead, e.g. http://localhost:8000.")
    chroma_api_key: SecretStr = Field(SecretStr(""), description="The server's key or token, if it asks for one.")
    chroma_tenant: str = Field("", description="The tenant on the server; empty for its default.")
    chroma_database: str = Field("", description="The database on the server; empty for its default.")
    collection: str = Field("handbook", description="Chroma collection.")

    chunk_size: int = Field(1000, ge=50, le=20_000, description="Size of a chunk at most; the collection remembers it.")
    chunk_overlap: int = Field(0, ge=0, description="How much of a chunk's end begins the next one too, at most.")
    chunk_unit: Literal["characters", "tokens"] = Field("characters", description="characters, or tokens (estimated).")
    metadata: str = Field("", description="Fields of documents to filter by, e.g. year:int,country,kind; see docs/ingest.md.")
    read_timeout: float = Field(120, gt=0, description="Seconds that reading one file may take.")
    batch_path: Path = Field(Path("data/batches"), description="Folder for what `ingest --batch` has under way.")
    ocr_timeout: float = Field(
        0,
        ge=0,
        description="Seconds that OCR of scans and photographs may take a file, 5 to 10 a page; 0 turns it off.",
    )
    read_memory_mb: int = Field(4000, ge=500, description="Megabytes of address space that reading one file may take.")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "warning", description="debug, info (one line a rerank), warning or error; on stderr."
    )

    builtin_path: Path = Field(
        Path("data/builtin"),
        description="Folder of the built-in models' token vectors, a cache that may be deleted at any time.",
    )
    lexical: bool = Field(True, description="Find candidates by their words (BM25) too, beside the vectors.")
    dense_weight: float = Field(0.7, ge=0, le=1, description="Weight of the vectors where both are fused, 0 to 1.")
    lexical_path: Path = Field(
        Path("data/lexical"), description="Folder of the lexical index, a cache that may be deleted at any time."
    )
    plan: Literal["none", "phrasings", "parts"] = Field(
        "none", description="Have the chat model plan a question: none, phrasings (seek others too) or parts (one by one)."
    )
    limit_by_question: bool = Field(
        False, description="Have the chat model read values of RAG_METADATA's fields out of a question, and search only those."
    )
    n_candidates: int = Field(30, ge=1, le=1000, description="Candidates retrieved and reranked; 20-50 is advised.")
    n_passages: int = Field(4, ge=1, le=100, description="Passages given to the chat model; 3-5 is advised.")
    n_neighbours: int = Field(0, ge=0, le=20, description="Chunks before and after each passage that go with it to chat.")

    title: str = Field("Ask the handbook", description="Title of the page.")
    icon: str = Field("", description="Its icon: path of a picture, or an emoji; empty = ours.")
    eval_path: Path = Field(Path("data/eval"), description="Labelled questions; judgements made on the page are added.")
    runs_path: Path = Field(Path("data/runs"), description="Folder for evaluation runs, and what their stages gave.")
    feedback_path: Path = Field(Path("data/feedback"), description="Folder for thumbs, comments and votes.")
    upload_path: Path = Field(Path("data/uploads"), description="Folder for files that are uploaded on the page.")
    upload_mb: int = Field(
        100, ge=1, le=10_000, description="Megabytes that an uploaded file may have; a zip, unpacked, tenfold."
    )
    server_path: Path = Field(Path("data"), description="The page may ingest folders of this machine below this one.")

    price_embedding: Price = Field(None, description="Price of a million tokens embedded, to show what a question costs.")
    price_rerank: Price = Field(None, description="Price of a million tokens reranked.")
    price_rerank_requests: Price = Field(
        None, description="Price of a thousand rerank requests, where they are what is paid for."
    )
    price_prompt: Price = Field(None, description="Price of a million tokens of prompt.")
    price_answer: Price = Field(None, description="Price of a million tokens of answer.")
    price_currency: str = Field("USD", description="Currency of these prices.")

    @classmethod
    def settings_customise_sources(cls, settings_cls: Any, init_settings: Any, *outside: Any, **named: Any) -> Any:
        """Read options, then the environment, then `.env`; a setting that is left empty in the first of these is not set."""

        def given() -> dict[str, Any]:
            found = {**named["dotenv_settings"](), **named["env_settings"]()}
            return {name: value for name, value in found.items() if value != ""}

        return init_settings, given

    @field_validator("base_url", "embedding_url", "rerank_url", "chat_url", "chroma_url")
    @classmethod
    def _has_scheme(cls, url: str, info: ValidationInfo) -> str:
        url = url.strip()
        if url and url != "builtin":
            try:
                parts = urlsplit(url)
                complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            except ValueError:
                complete = False
            if not complete:
                raise WrongValueError(
                    msg("not a complete URL"),
                    msg("write it with its scheme, such as {example}", example="https://api.example.com/v1"),
                )
            if "@" in parts.netloc or (parts.query and info.field_name == "chroma_url"):
                raise WrongValueError(
                    msg("it has a user, password or query, which are not sent"), msg("use the settings for API keys")
                )
        return url

    @field_validator("base_url", "chroma_url")
    @classmethod
    def _not_builtin(cls, url: str) -> str:
        if url == "builtin":
            raise WrongValueError(msg("{value} is not allowed", value=url), msg("leave it empty to use the built-in model"))
        return url

    @field_validator("collection")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,490}[a-zA-Z0-9]", name):
            raise WrongValueError(
                msg("not a valid collection name"),
                msg("use 3 to 492 letters, digits, dots, underscores and hyphens; start and end with a letter or digit"),
            )
        if ending := next((ending for ending in RESERVED if name.endswith(ending)), ""):
            raise WrongValueError(
                msg("a name that ends with {ending} is reserved for reindexing", ending=ending), msg("choose a different name")
            )
        return name

    @field_validator(
        "chroma_path",
        "eval_path",
        "runs_path",
        "feedback_path",
        "upload_path",
        "batch_path",
        "server_path",
        "lexical_path",
        "builtin_path",
    )
    @classmethod
    def _is_a_folder(cls, path: Path) -> Path:
        path = path.expanduser()
        if path.exists() and not path.is_dir():
            raise WrongValueError(msg("{path} is a file", path=path), msg("name a folder"))
        return path

    @field_validator("api_key", "embedding_api_key", "rerank_api_key", "chat_api_key", "chroma_api_key")
    @classmethod
    def _clean_key(cls, key: SecretStr) -> SecretStr:
        """Take off what people paste along: white space, newlines, the word Bearer."""
        text = "".join(key.get_secret_value().split()) if key else ""
        text = text.removeprefix("Bearer") if text.startswith("Bearer") and len(text) > 6 else text
        if not text.isascii() or not text.isprintable():
            raise WrongValueError(msg("the key has characters that an HTTP header cannot carry"), msg("copy it again"))
        return SecretStr(text)

    @field_validator("embedding_input_types")
    @classmethod
    def _are_two(cls, names: str) -> str:
        if names and not re.fullmatch(r"\s*\w+\s*,\s*\w+\s*", names):
            raise WrongValueError(msg("not two names"), msg("write it like {example}", example="query,passage"))
        return names

    @field_validator("metadata")
    @classmethod
    def _declares_fields(cls, declared: str) -> str:
        fields(declared)
        return declared

    @field_validator("embedding_auth", "rerank_auth", "chat_auth")
    @classmethod
    def _is_a_header(cls, scheme: str) -> str:
        if not _HEADER.fullmatch(scheme):
            raise WrongValueError(
                msg("not a valid header name"),
                msg("use {bearer}, {raw} or a name such as {example}", bearer="bearer", raw="raw", example="x-api-key"),
            )
        return scheme.lower() if scheme.lower() in ("auto", "bearer", "raw") else scheme

    @field_validator(*(f"{stage.lower()}_{part}" for stage in STAGES for part in ("parameters", "headers")), mode="before")
    @classmethod
    def _is_an_object(cls, value: Any) -> Any:
        try:
            decoded = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            decoded = None
        if not isinstance(decoded, dict):
            raise WrongValueError(
                msg("not a JSON object"), msg("write it like {example}", example='{"return_documents": false}')
            )
        return decoded

    @field_validator("embedding_headers", "rerank_headers", "chat_headers", mode="after")
    @classmethod
    def _are_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            text = value.get_secret_value()
            if not _HEADER.fullmatch(name) or not text.isascii() or not text.isprintable():
                raise WrongValueError(
                    msg("{name} is not a header, or has a value that none can carry", name=name),
                    msg("write it like {example}", example='{"X-Team": "search"}'),
                )
        return headers

    @field_validator("embedding_parameters", "rerank_parameters", "chat_parameters")
    @classmethod
    def _leaves_the_question_alone(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        if taken := {"model", "query", "documents", "texts", "passages", "input", "messages"} & set(parameters):
            raise WrongValueError(
                msg("{names} cannot be set here", names=joined(", ", sorted(taken))),
                msg("remove it: the program fills it in"),
            )
        return parameters

    @model_validator(mode="after")
    def _counts_fit(self) -> Self:
        if self.n_passages > self.n_candidates:
            raise WrongValueError(
                msg(
                    "RAG_N_PASSAGES ({n_passages}) is above RAG_N_CANDIDATES ({n_candidates})",
                    n_passages=self.n_passages,
                    n_candidates=self.n_candidates,
                ),
                msg("lower it: passages are chosen from the candidates"),
            )
        if 2 * self.chunk_overlap > self.chunk_size:
            raise WrongValueError(
                msg(
                    "RAG_CHUNK_OVERLAP ({overlap}) is above half of RAG_CHUNK_SIZE ({size})",
                    overlap=self.chunk_overlap,
                    size=self.chunk_size,
                ),
                msg("lower it: most of the text would be stored twice"),
            )
        return self

    def endpoint(self, stage: Stage) -> Endpoint:
        """Return where a stage's model is; the URL of a built-in one is empty until its gateway runs.

        SettingsError if a model of one's own has no name.
        """
        low = stage.lower()
        role, models = STAGES[stage]
        own: str = getattr(self, f"{low}_url")
        own_key: SecretStr = getattr(self, f"{low}_api_key")
        model: str = getattr(self, f"{low}_model")
        timeout: float = getattr(self, f"{low}_timeout")
        url = own or self.base_url
        if url in ("", "builtin"):
            if model not in ("", *models):
                raise SettingsError(
                    msg("{name}={model} needs an address", name=setting_name(stage, "MODEL"), model=model),
                    msg(
                        "set RAG_BASE_URL or {url}, or leave {name} empty to use the built-in {builtin}",
                        url=setting_name(stage, "URL"),
                        name=setting_name(stage, "MODEL"),
                        builtin=models[0],
                    ),
                )
            return Endpoint(stage, role, "", model or models[0], SecretStr(""), timeout, builtin=True)
        if not model:
            raise SettingsError(
                msg("{name} is not set", name=setting_name(stage, "MODEL")),
                msg("name the {role} model to use at {url}", role=role, url=url),
            )
        # The common key goes to one server only, so that it is not shown to another that it was not made for.
        key = own_key or (self.api_key if self._origins() == {_origin(url)} else SecretStr(""))
        url = rerank_url(url) if stage == "RERANK" else openai_base(url)
        how = {name: getattr(self, f"{low}_{name}") for name in ("auth", "headers", "parameters")}
        return Endpoint(stage, role, url, model, key, timeout, **how)

    @property
    def judge(self) -> Endpoint | None:
        """The judge model, at the chat endpoint, or None if there is none. SettingsError if chat is built-in."""
        if not self.judge_model:
            return None
        chat = self.endpoint("CHAT")
        if chat.builtin:
            raise SettingsError(
                msg("RAG_JUDGE_MODEL={model} needs a chat endpoint", model=self.judge_model),
                msg("set RAG_CHAT_URL or RAG_BASE_URL"),
            )
        return replace(chat, model=self.judge_model, role=msg("judge"))

    def with_collection(self, name: str) -> "Settings":
        """Return the settings for another collection. SettingsError if it cannot have this name."""
        try:
            return self.model_copy(update={"collection": self._is_a_name(name)})
        except WrongValueError as error:
            raise _named([error], ["RAG_COLLECTION"]) from None

    def _origins(self) -> set[tuple[str, str]]:
        """Return where the common key may go: the base URL's server, without a base URL that of all others, if it is one."""
        own = (self.embedding_url, self.rerank_url, self.chat_url)
        return {_origin(url) for url in ([self.base_url] if self.base_url else own) if url not in ("", "builtin")}

    @property
    def question_prefix(self) -> str:
        """The prefix for questions; a built-in model brings its own, from wherever it is served."""
        own = builtin.PREFIXES.get(self.endpoint("EMBEDDING").model)
        return own[0] if own and "embedding_question_prefix" not in self.model_fields_set else self.embedding_question_prefix

    @property
    def passage_prefix(self) -> str:
        """The prefix for passages, likewise."""
        own = builtin.PREFIXES.get(self.endpoint("EMBEDDING").model)
        return own[1] if own and "embedding_passage_prefix" not in self.model_fields_set else self.embedding_passage_prefix

    @property
    def input_types(self) -> tuple[str, str] | None:
        """What the embeddings endpoint calls a question and a passage, where it wants to be told."""
        question, _, passage = self.embedding_input_types.partition(",")
        return (question.strip(), passage.strip()) if question else None

    def advice(self) -> list[Message]:
        """Return a line for each setting that works but is unlikely to serve."""
        lines = []
        candidates, passages = self.n_candidates, self.n_passages
        if candidates < 20:
            lines.append(
                nmsg(
                    "{n} candidate: fewer than 20 leave the reranker little to choose from",
                    "{n} candidates: fewer than 20 leave the reranker little to choose from",
                    candidates,
                )
            )
        if candidates > 50:
            lines.append(msg("{n} candidates: more than 50 cost rerank time and rarely change the passages", n=candidates))
        if passages < 3:
            lines.append(
                nmsg(
                    "{n} passage: fewer than 3 lose the answer when the best one is ranked just below the cutoff",
                    "{n} passages: fewer than 3 lose the answer when the best one is ranked just below the cutoff",
                    passages,
                )
            )
        if passages > 5:
            lines.append(msg("{n} passages: more than 5 lengthen the prompt with weaker passages", n=passages))
        return lines


def load_settings(**overrides: object) -> Settings:
    """Return the settings from the environment and `.env`, with options of the command line on top.

    SettingsError in one line for a misspelt RAG_ variable or a value that cannot work; a key is never repeated in it. Names
    without the prefix belong to other programs and are not looked at.
    """
    known = [PREFIX + field.upper() for field in Settings.model_fields]
    for name in (*os.environ, *_names_in(Path(".env"))):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, 1)
            remedy = msg("did you mean {name}?", name=near[0]) if near else msg("see .env.example for all settings")
            raise SettingsError(msg("{name} is not a setting", name=name), remedy)
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        found = [problem.get("ctx", {}).get("error") or SettingsError(Message(problem["msg"])) for problem in problems]
        names = ["".join(f"{PREFIX}{str(place).upper()}" for place in problem["loc"][:1]) for problem in problems]
        raise _named(found, names) from None


def fields(declared: str) -> dict[str, FieldKind]:
    """Return the kinds of fields by name that `year:int,country` declares. WrongValueError if it does not."""
    found: dict[str, FieldKind] = {}
    for part in filter(None, map(str.strip, declared.split(","))):
        name, colon, kind = map(str.strip, part.partition(":"))
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,24}", name) or name in RESERVED_FIELDS or name in found:
            raise WrongValueError(
                msg("{name} cannot be the name of a field", name=name),
                msg("use small letters, digits and underscores, each name once, and not {reserved}", reserved=_RESERVED),
            )
        if colon and kind not in ("text", "int"):
            raise WrongValueError(
                msg("{kind} is no kind of field", kind=kind), msg("write it like {example}", example="year:int,country")
            )
        found[name] = "int" if kind == "int" else "text"
    if len(found) > MOST_FIELDS:
        raise WrongValueError(msg("more than {n} fields", n=MOST_FIELDS), msg("leave out those that nobody filters by"))
    return found


def _named(errors: Sequence[SettingsError], names: Sequence[str]) -> SettingsError:
    """Return errors about settings as one, each under the name of its setting."""
    return SettingsError(
        joined("; ", [joined(": ", (name, error.happened)) for name, error in zip(names, errors, strict=True)]),
        joined("; ", [error.remedy for error in errors]),
    )


def _names_in(env_file: Path) -> list[str]:
    """Return the names that a .env file sets. SettingsError if it cannot be read, or a line that is ours is not NAME=value."""
    if not env_file.is_file():
        return []
    try:
        lines = list(parse_stream(io.StringIO(env_file.read_text("utf-8-sig"))))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(msg(".env cannot be read ({reason})", reason=error), msg("save it as UTF-8 text")) from None
    for line in lines:
        ours = re.match(rf"\s*(export\s+)?{PREFIX}", line.original.string, re.IGNORECASE)
        if ours and (line.error or line.value is None):
            raise SettingsError(msg("line {n} of .env is not a setting", n=line.original.line), msg("write NAME=value"))
    return [line.key for line in lines if line.key]


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()
