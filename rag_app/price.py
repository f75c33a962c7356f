"""What a question cost, from the tokens that the endpoints reported and the prices in the settings."""

from rag_app.settings import Settings
from rag_app.types import STAGES, Ask, Record, Search
from rag_app.words import Message, Said, joined, msg


class Cost(Record):
    """An amount, and the stages whose price is set but whose tokens the endpoint did not report: they are not in it."""

    amount: float
    currency: str
    unknown: tuple[Said, ...] = ()

    @property
    def known(self) -> bool:
        """Whether anything is in it."""
        return self.amount > 0 or not self.unknown

    @property
    def message(self) -> Message:
        """The amount with its currency, two decimals or, below a hundredth, as many as it has up to six."""
        digits = 2 if self.amount >= 0.01 else len(f"{self.amount:.6f}".rstrip("0").partition(".")[2])
        return msg("{amount:.{digits}f} {currency}", amount=self.amount, digits=digits, currency=self.currency)

    @property
    def said(self) -> tuple[Message, ...]:
        """The price in words: what is known of it, and for which stages it is not."""
        missing = msg("price not known for {stages}: no tokens were reported", stages=joined(", ", self.unknown))
        return (
            *((msg("price {price}", price=self.message),) if self.known else ()),
            *((missing,) if self.unknown else ()),
        )

    def __str__(self) -> str:
        return str(self.message)


def cost(search: Search, settings: Settings) -> Cost | None:
    """Return what a question cost by RAG_PRICE_…; None if no price is set."""
    prices = [
        (STAGES["embed"], settings.price_embedding, search.tokens.embed),
        (STAGES["rerank"], settings.price_rerank, search.tokens.rerank if search.rerank.attempts else 0),
    ]
    if search.rewrite:
        prices += [
            (STAGES["rewrite"], settings.price_prompt, search.rewrite.prompt_tokens),
            (STAGES["rewrite"], settings.price_answer, search.rewrite.answer_tokens),
        ]
    for stage, asked in (("limit", search.limit), ("plan", search.plan)):
        if asked:
            prices += [
                (STAGES[stage], settings.price_prompt, asked.prompt_tokens),
                (STAGES[stage], settings.price_answer, asked.answer_tokens),
            ]
    if isinstance(search, Ask) and search.answer.model != "none":
        prices += [
            (STAGES["answer"], settings.price_prompt, search.tokens.chat_prompt),
            (STAGES["answer"], settings.price_answer, search.tokens.chat_answer),
        ]
        if other := search.without_rerank:
            without = msg("answer without reranking")
            prices += [
                (without, settings.price_prompt, other.prompt_tokens),
                (without, settings.price_answer, other.answer_tokens),
            ]
    set_ones = [(stage, price, tokens) for stage, price, tokens in prices if price is not None]
    if not set_ones and settings.price_rerank_requests is None:
        return None
    amount = sum(price * tokens / 1e6 for _, price, tokens in set_ones if tokens is not None)
    amount += (settings.price_rerank_requests or 0.0) * search.rerank.attempts / 1000
    unknown = dict.fromkeys(stage for stage, _, tokens in set_ones if tokens is None)
    return Cost(amount=amount, currency=settings.price_currency, unknown=tuple(unknown))


def rerank_cost(search: Search, settings: Settings) -> float | None:
    """Return what reranking alone cost; None if no price of it is set, or one a token and these are unknown."""
    if settings.price_rerank is None and settings.price_rerank_requests is None:
        return None
    if settings.price_rerank and search.rerank.attempts and search.tokens.rerank is None:
        return None
    tokens = (settings.price_rerank or 0.0) * (search.tokens.rerank or 0) / 1e6
    return tokens + (settings.price_rerank_requests or 0.0) * search.rerank.attempts / 1000
