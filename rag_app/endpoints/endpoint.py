"""An HTTP endpoint of one stage: where it is and what it is called."""

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from rag_app import builtin
from rag_app.endpoints.failures import EndpointError, Kind, error_message, status_kind
from rag_app.words import NOTHING, Message, joined, msg

# As in the names of the settings, RAG_RERANK_URL and so on.
Stage = Literal["EMBEDDING", "RERANK", "CHAT"]
RERANK_PATHS = ("/rerank", "/reranks", "/reranking", "/ranking", "/text-rerank")


@dataclass(frozen=True)
class Endpoint:
    """One model at one address. `url` is an OpenAI-style base URL, or for rerank the full URL of the call.

    `role` is what the model does, as messages call it; the judge is at the stage CHAT.
    """

    stage: Stage
    role: str
    url: str
    model: str
    key: SecretStr
    timeout: float
    builtin: bool = False

    @property
    def address(self) -> str:
        """The URL as it may be shown."""
        return address(self.url)

    @property
    def fingerprint(self) -> list[str]:
        """What answers depend on: the built-in gateway's port is another each time, its models' files are not."""
        return [f"builtin {builtin.files()}" if self.builtin else self.url, self.model]

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
        if (key := self.key.get_secret_value()) and key in reason:
            reason = Message(reason.replace(key, "…"))
        return EndpointError(joined(": ", (self.name, reason)), remedy or self.remedy(kind), kind, reason)

    def status_error(
        self, status: int, phrase: str, body: bytes, retry_after: str | None, location: str | None
    ) -> EndpointError:
        """Return the error for an HTTP status that is not a success."""
        reason = joined(": ", (f"{status} {phrase}".strip(), error_message(body)))
        if location:
            reason = msg("{reason} (to {location})", reason=reason, location=location)
        if retry_after:
            reason = msg("{reason} (retry after {seconds} s)", reason=reason, seconds=retry_after)
        return self.error(status_kind(status, body), reason)

    def transport_error(self, error: Exception, timed_out: bool) -> EndpointError:
        """Return the error for a call that got no answer."""
        if timed_out:
            return self.error("timeout", msg("no answer within {seconds:g} s", seconds=self.timeout))
        return self.error("unreachable", msg("cannot be reached ({reason})", reason=str(error.__cause__ or error)))

    def remedy(self, kind: Kind) -> Message:
        """Return what to do about a kind of failure."""
        url, key, model, timeout = (setting_name(self.stage, part) for part in ("URL", "API_KEY", "MODEL", "TIMEOUT"))
        at = msg("check {url} or RAG_BASE_URL", url=url)
        check_model = msg("check {model}", model=model)
        reranks = self.stage == "RERANK"
        limit = "RAG_RERANK_MAX_DOCUMENTS" if reranks else "RAG_EMBEDDING_BATCH_SIZE"
        remedies: dict[Kind, Message] = {
            "unreachable": msg("is it running? {check}", check=at),
            "timeout": msg("raise {timeout} if it is slow, else {check}", timeout=timeout, check=at),
            "auth": msg("check {key} or RAG_API_KEY", key=key),
            "model": check_model,
            "url": msg("{check} (is /v1 missing or doubled?) and {model}", check=at, model=model),
            "redirect": msg("set {url} to the address that it redirects to", url=url),
            "rate": msg("wait and try again"),
            "quota": msg("top up the account, or use another key"),
            "too_many": msg("lower {limit}", limit=limit),
            "too_long": msg("shorten the question, or lower RAG_RERANK_MAX_TOKENS") if reranks else msg("shorten the question"),
            "request": msg("check RAG_RERANK_DIALECT and RAG_RERANK_PARAMETERS") if reranks else check_model,
            "reply": msg("{check} and {model}", check=at, model=model),
            "server": msg("try again; if it keeps happening, check the server's log"),
        }
        return remedies[kind]


def address(url: str) -> str:
    """Return a URL as it may be shown: without user, password or query. What is none stays as it is."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")) if parts.netloc else url


def setting_name(stage: Stage, part: str) -> str:
    """Return the name of a stage's setting, such as RAG_RERANK_URL."""
    return f"RAG_{stage}_{part}"


def openai_base(url: str) -> str:
    """Return the base URL for an OpenAI-style client: the call's own path taken off, /v1 added where no version is."""
    parts = urlsplit(url)
    path = _without_call(parts.path)
    if not re.search(r"/v\d", path):
        path += "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def rerank_url(url: str) -> str:
    """Return the full rerank URL: a path that already names a rerank call stands, else /rerank under its version."""
    parts = urlsplit(url)
    path = _without_call(parts.path)
    if not path.endswith(RERANK_PATHS):
        path += "/rerank" if re.search(r"/v\d+$", path) else "/v1/rerank"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _without_call(path: str) -> str:
    """Return a path without the name of another call at its end, and with a doubled version made one."""
    path = re.sub(r"/(embeddings|chat/completions|models)$", "", path.rstrip("/"))
    return re.sub(r"(/v\d+)\1(?=/|$)", r"\1", path)
