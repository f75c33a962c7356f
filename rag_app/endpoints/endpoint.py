"""An HTTP endpoint of one stage: where it is and what it is called."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import orjson
from pydantic import SecretStr

from rag_app import builtin
from rag_app.endpoints.failures import EndpointError, Kind, error_message, status_kind
from rag_app.words import NOTHING, Message, joined, msg

# As in the names of the settings, RAG_RERANK_URL and so on.
Stage = Literal["EMBEDDING", "RERANK", "CHAT"]
# Secrets that are shorter would mask common words.
MASKED = 6
# Bytes of an error that are looked at.
MOST_SAID = 100_000
# As providers write them; names of models, such as jina-reranker-v2, are none.
LIKE_A_KEY = re.compile(
    r"\b(?:sk|pk|xai|pa)-[A-Za-z0-9_-]{12,}|\b(?:sk|pk|ghp|hf|gsk|jina)_[A-Za-z0-9_]{12,}|\bAIza[A-Za-z0-9_-]{20,}"
    r"|(?<=Bearer )[^\s\"']{8,}"
)
RERANK_PATHS = ("/rerank", "/reranks", "/reranking", "/ranking", "/text-rerank")


@dataclass(frozen=True)
class Endpoint:
    """One model at one address. `url` is an OpenAI-style base URL, or for rerank the full URL of the call.

    `role` is what the model does, as messages call it; the judge is at the stage CHAT. `auth` is how the key is sent: auto,
    bearer, raw or the name of a header; `headers` are sent too, and `parameters` are merged into each request.
    """

    stage: Stage
    role: str
    url: str
    model: str
    key: SecretStr
    timeout: float
    builtin: bool = False
    auth: str = "auto"
    headers: Mapping[str, SecretStr] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The URL as it may be shown."""
        return address(self.url)

    @property
    def fingerprint(self) -> list[str]:
        """What answers depend on: the built-in gateway's port is another each time, its models' files are not."""
        where = f"builtin {builtin.files()}" if self.builtin else self.url
        return [where, self.model, *([orjson.dumps(self.parameters).decode()] if self.parameters else [])]

    @property
    def credentials(self) -> dict[str, str]:
        """The headers that say who asks, and those of the settings."""
        own = {name: value.get_secret_value() for name, value in self.headers.items()}
        if not (key := self.key.get_secret_value()):
            return own
        scheme = self.auth
        if scheme == "auto":
            # Azure's first interface takes nothing else, nor does Gemini's own.
            scheme = "api-key" if "/openai/deployments/" in self.url else "bearer"
            scheme = "x-goog-api-key" if ":batchEmbedContents" in self.url else scheme
        if scheme in ("bearer", "raw"):
            return {"Authorization": f"Bearer {key}" if scheme == "bearer" else key, **own}
        return {scheme: key, **own}

    def call(self, name: str) -> str:
        """Return the URL of a call below the base URL."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))

    @property
    def name(self) -> Message:
        return msg("{role} ({model} at {address})", role=self.role, model=self.model, address=self.address)

    def error(self, kind: Kind, reason: Message, remedy: Message = NOTHING) -> EndpointError:
        """Return the one error for this endpoint: who, what, what to do next."""
        # Some servers repeat the key that they refuse.
        if (masked := self.masked(reason)) != reason:
            reason = Message(masked)
        return EndpointError(joined(": ", (self.name, reason)), remedy or self.remedy(kind), kind, reason)

    def masked(self, text: str) -> str:
        """Return a text without the secrets of this endpoint and whatever else looks like a key."""
        parts = urlsplit(self.url)
        asked = [value for name, value in parse_qsl(parts.query) if re.search(r"key|token|secret|sig|pass|code", name, re.I)]
        in_url = [SecretStr(value) for value in (parts.password or "", *asked)]
        for secret in (self.key, *self.headers.values(), *in_url):
            if len(value := secret.get_secret_value()) >= MASKED:
                text = text.replace(value, "…")
        return LIKE_A_KEY.sub("…", text)

    def status_error(
        self, status: int, phrase: str, body: bytes, retry_after: str | None, location: str | None
    ) -> EndpointError:
        """Return the error for an HTTP status that is not a success."""
        # Masked before the message is cut, which may cut a key.
        said = error_message(self.masked(body[:MOST_SAID].decode("utf-8", "replace")).encode())
        kind = status_kind(status, body)
        # In words: a 404 that quotes "Not Found" of a server says little.
        missing = kind == "url" and status == 404
        reason = joined(": ", (msg("no such address") if missing else f"{status} {phrase}".strip(), said))
        if location:
            reason = msg("{reason} (to {location})", reason=reason, location=address(location))
        if retry_after:
            reason = msg("{reason} (retry after {seconds} s)", reason=reason, seconds=retry_after)
        error = self.error(kind, reason)
        error.status, error.body = status, body[:4000]
        return error

    def said_error(self, said: Any) -> EndpointError:
        """Return the error for one that a server sends as its answer, with status 200: of its code, where that is a status."""
        body = json.dumps(said, default=str).encode()
        code = said.get("code") if isinstance(said, dict) else None
        known = isinstance(code, int | str) and re.fullmatch(r"[45]\d\d", str(code))
        error = self.error(
            status_kind(int(str(code)), body) if known else "server",
            error_message(self.masked(body[:MOST_SAID].decode("utf-8", "replace")).encode())
            or msg("an error without a message"),
        )
        error.status, error.body = int(str(code)) if known else 0, body[:4000]
        return error

    def transport_error(self, error: Exception, timed_out: bool) -> EndpointError:
        """Return the error for a call that got no answer."""
        if timed_out:
            return self.error("timeout", msg("no answer within {seconds:g} s", seconds=self.timeout))
        reason = str(error.__cause__ or error)
        kind: Kind = "trust" if "CERTIFICATE_VERIFY_FAILED" in reason else "unreachable"
        return self.error(kind, msg("cannot be reached ({reason})", reason=reason))

    def remedy(self, kind: Kind) -> Message:
        """Return what to do about a kind of failure."""
        url, key, model, timeout = (setting_name(self.stage, part) for part in ("URL", "API_KEY", "MODEL", "TIMEOUT"))
        at = msg("check {url} or RAG_BASE_URL", url=url)
        check_model = msg("check {model}", model=model)
        reranks = self.stage == "RERANK"
        limit = "RAG_RERANK_MAX_DOCUMENTS" if reranks else "RAG_EMBEDDING_BATCH_SIZE"
        remedies: dict[Kind, Message] = {
            "unreachable": msg("is it running? {check}", check=at),
            "trust": msg("set SSL_CERT_FILE to the PEM file of the certificate authority that signed it"),
            "timeout": msg("raise {timeout} if it is slow, else {check}", timeout=timeout, check=at),
            "auth": msg("check {key} or RAG_API_KEY", key=key),
            "model": check_model,
            "url": msg("{check} (is /v1 missing or doubled?) and {model}", check=at, model=model),
            "redirect": msg("set {url} to the address that it redirects to", url=url),
            "rate": msg("wait and try again"),
            "quota": msg("top up the account, or use another key"),
            "too_many": msg("lower {limit}", limit=limit),
            "too_long": {
                "EMBEDDING": msg("lower RAG_CHUNK_SIZE and run `rag-app reindex`, or raise the server's limit"),
                "RERANK": msg("lower RAG_RERANK_MAX_TOKENS"),
                "CHAT": msg("lower RAG_N_PASSAGES, RAG_N_NEIGHBOURS or RAG_CHUNK_SIZE, or use a model with a longer context"),
            }[self.stage],
            "filtered": msg("rephrase the question, or ask who runs the endpoint about its content filter"),
            "text": msg("change the text, or use another {model}", model=model),
            "request": msg("check RAG_RERANK_DIALECT and RAG_RERANK_PARAMETERS")
            if reranks
            else msg("check {model} and {parameters}", model=model, parameters=setting_name(self.stage, "PARAMETERS")),
            "reply": msg("{check} and {model}", check=at, model=model),
            "server": msg("try again; if it keeps happening, check the server's log"),
        }
        return remedies[kind]


def address(url: str) -> str:
    """Return a URL as it may be shown: without user, password or query. What is none stays as it is."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")) if parts.netloc else url


def setting_name(stage: Stage, part: str) -> str:
    """Return the name of a stage's setting, such as RAG_RERANK_URL."""
    return f"RAG_{stage}_{part}"


def openai_base(url: str) -> str:
    """Return the base URL for an OpenAI-style client: as written, without the call's own name; /v1 below a bare host."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, _without_call(parts.path) or "/v1", parts.query, ""))


def rerank_url(url: str) -> str:
    """Return the full rerank URL: a path that already names a rerank call stands, else /rerank below it."""
    parts = urlsplit(url)
    path = _without_call(parts.path)
    if not path.endswith(RERANK_PATHS):
        path = f"{path or '/v1'}/rerank"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _without_call(path: str) -> str:
    """Return a path without the name of another call at its end, and with a doubled version made one."""
    path = re.sub(r"/(embeddings|chat/completions|models)$", "", path.rstrip("/"))
    return re.sub(r"(/v\d+)\1(?=/|$)", r"\1", path)
