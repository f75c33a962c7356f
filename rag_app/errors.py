"""The errors that a user sees: what happened, and what to do next."""

from rag_app.words import NOTHING, Message, msg


class RagError(Exception):
    """Something a person can act on. As text it is one line of English; `message` can be said in other languages.

    `happened` names the thing, `remedy` says what to do; both are messages that keep their values.
    """

    def __init__(self, happened: Message, remedy: Message = NOTHING) -> None:
        super().__init__(happened, remedy)
        self.happened = happened
        self.remedy = remedy

    @property
    def message(self) -> Message:
        """What happened and what to do, on one line."""
        return msg("{happened}: {remedy}", happened=self.happened, remedy=self.remedy) if self.remedy else self.happened

    def record(self) -> dict[str, object]:
        """The error as an object of JSON: both sentences, and the values in them."""
        values = {**self.happened.values, **self.remedy.values}
        return {"error": str(self.happened), "remedy": str(self.remedy), "values": {n: _plain(v) for n, v in values.items()}}

    def __str__(self) -> str:
        return str(self.message)


class SettingsError(RagError):
    """A setting or an option that cannot work; the command line exits with 2."""


def _plain(value: object) -> object:
    return str(value) if isinstance(value, str) else value
