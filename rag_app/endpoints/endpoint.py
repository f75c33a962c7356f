"""An HTTP endpoint of one stage: where it is and what it is called."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from rag_app import builtin
from rag_app.endpoints.failures import EndpointError, Kind, error_message, status_kind

RERANK_PATHS = ("/rerank", "/reranks", "/reranking", "/ranking", "/text-rerank")


@dataclass(frozen=True)
class Endpoint:
    """One model at one address. `url` is an OpenAI-style base URL, or for rerank the full URL of the call."""

    stage: str
    setting: str
    url: str
    model: str
    key: SecretStr
    timeout: float
    builtin: bool = False

    @property
    def address(self) -> str:
        """The URL as it may be shown: without user, password or query."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @property
    def fingerprint(self) -> list[str]:
        """What answers depend on: the built-in gateway's port is another each time, its models' files are not."""
        return [f"builtin {builtin.files()}" if self.builtin else self.url, self.model]

    def call(self, name: str) -> str:
        """Return the URL of a call below the base URL."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))

    @property
    def name(self) -> str:
        return f"{self.stage} ({self.model} at {self.address})"

    def error(self, kind: Kind, reason: str, remedy: str = "") -> EndpointError:
        """Return the one error for this endpoint: who, what, what to do next."""
        # Some servers repeat the key that they refuse.
        if key := self.key.get_secret_value():
            reason = reason.replace(key, "…")
        remedy = remedy or self.remedy(kind)
        return EndpointError(f"{self.name}: {reason}; {remedy}", kind, reason, remedy)

    def status_error(
        self, status: int, phrase: str, body: bytes, retry_after: str | None, location: str | None
    ) -> EndpointError:
        """Return the error for an HTTP status that is not a success."""
        message = error_message(body)
        reason = f"{status} {phrase}".strip() + (f": {message}" if message else "")
        if location:
            reason += f" (to {location})"
        if retry_after:
            reason += f" (retry after {retry_after} s)"
        return self.error(status_kind(status, body), reason)

    def transport_error(self, error: Exception, timed_out: bool) -> EndpointError:
        """Return the error for a call that got no answer."""
        if timed_out:
            return self.error("timeout", f"no answer within {self.timeout:g} s")
        return self.error("unreachable", f"cannot be reached ({error.__cause__ or error or type(error).__name__})")

    def remedy(self, kind: Kind) -> str:
        """Return what to do about a kind of failure."""
        url, key, model = (f"RAG_{self.setting}_{part}" for part in ("URL", "API_KEY", "MODEL"))
        at = f"check {url} or RAG_BASE_URL"
        remedies: dict[Kind, str] = {
            "unreachable": f"is it running? {at}",
            "timeout": f"raise RAG_{self.setting}_TIMEOUT if it is slow, else {at}",
            "auth": f"check {key} or RAG_API_KEY",
            "model": f"check {model}",
            "url": f"{at} (is /v1 missing or doubled?) and {model}",
            "redirect": f"put the address that it redirects to into {url}",
            "rate": "wait and try again",
            "quota": "top up the account, or use another key",
            "too_many": "lower RAG_EMBEDDING_BATCH_SIZE" if self.setting == "EMBEDDING" else "lower RAG_RERANK_MAX_DOCUMENTS",
            "too_long": "shorten the question" + (", or lower RAG_RERANK_MAX_TOKENS" if self.setting == "RERANK" else ""),
            "request": "check RAG_RERANK_DIALECT and RAG_RERANK_PARAMETERS" if self.setting == "RERANK" else f"check {model}",
            "reply": f"{at} and {model}",
            "server": "try again; if it stays, look at the server's log",
        }
        return remedies[kind]


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
