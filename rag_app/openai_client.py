"""The openai package: one client per endpoint, its exceptions turned into our one error."""

import openai

from rag_app.endpoint import Endpoint
from rag_app.types import RagError

RETRIES = 2


def connect(endpoint: Endpoint) -> openai.OpenAI:
    """Return a client for the endpoint. It retries 408, 409, 429, 5xx and lost connections twice, with backoff."""
    return openai.OpenAI(
        base_url=endpoint.url,
        # An empty key is refused by the client; servers without keys ignore this one.
        api_key=endpoint.key.get_secret_value() or "none",
        timeout=openai.Timeout(endpoint.timeout, connect=5.0),
        max_retries=RETRIES,
    )


def failure(endpoint: Endpoint, error: openai.OpenAIError) -> RagError:
    """Return our error for one of the openai package."""
    if isinstance(error, openai.APIStatusError):
        response = error.response
        return endpoint.status_error(
            response.status_code, response.reason_phrase, response.content, response.headers.get("retry-after")
        )
    if isinstance(error, openai.APIConnectionError):
        return endpoint.transport_error(error, timed_out=isinstance(error, openai.APITimeoutError))
    return endpoint.error(str(error) or type(error).__name__)
