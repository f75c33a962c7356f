"""The words that people read: messages that can be said in every language of `rag_app/locale/`, one .po file each.

Write `msg("…")` where a sentence is made, and say it with a `Words` where it is shown. English is the text in the code; what
a language lacks is shown in English, and `tests/test_words.py` finds it.
"""

import gettext
import io
import string
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import PlainSerializer, PlainValidator, SerializationInfo, WithJsonSchema

FOLDER = Path(__file__).parent / "locale"
ENGLISH = "en"
# Hands to `model_dump_json(context=…)`: messages are kept with their values, to be said in any language later.
KEEP = {"keep_messages": True}


class Message(str):
    """A sentence in English, as any text, that keeps its template and values so that `Words` can say it in another language.

    Values are numbers, texts and other messages. A text that is no sentence of ours is a message without values.
    """

    __slots__ = ("context", "many", "n", "template", "values")
    template: str
    many: str
    context: str
    n: int | None
    values: dict[str, Any]

    def __new__(
        cls,
        template: str,
        values: Mapping[str, Any] | None = None,
        *,
        many: str = "",
        n: int | None = None,
        context: str = "",
    ) -> Self:
        kept = {name: _value(value) for name, value in (values or {}).items()}
        chosen = many if many and n != 1 else template
        message = super().__new__(cls, _English().vformat(chosen, (), kept) if kept else chosen)
        message.template, message.values, message.many, message.n, message.context = template, kept, many, n, context
        return message

    def __reduce__(self) -> Any:
        return _restored, (self.record(),)

    def record(self) -> dict[str, Any]:
        """Return the message as an object of JSON, from which it can be made again; what it does not have is left out."""
        values = {name: value.record() if isinstance(value, Message) else value for name, value in self.values.items()}
        parts = {"text": self.template, "values": values, "many": self.many, "n": self.n, "context": self.context}
        return {name: part for name, part in parts.items() if part or part == 0 or name == "text"}


NOTHING = Message("")


def msg(text: str, /, **values: Any) -> Message:
    """Return a sentence with values in its places, as `str.format` puts them."""
    return Message(text, values)


def nmsg(one: str, many: str, n: int, /, **values: Any) -> Message:
    """Return a sentence that counts: `one` where n is 1, else `many`; n is among the values as {n}."""
    return Message(one, {"n": n, **values}, many=many, n=n)


def pmsg(context: str, text: str, /, **values: Any) -> Message:
    """Return a word that other languages say differently in different places; the context tells the translator which."""
    return Message(text, values, context=context)


def joined(separator: str, parts: Iterable[str]) -> Message:
    """Return messages and texts, empty ones left out, as one."""
    kept = {f"part{i}": part for i, part in enumerate(filter(None, parts))}
    return Message(separator.join(f"{{{name}}}" for name in kept), kept)


class _English(string.Formatter):
    """Formats as `str.format` does; numbers with a format of their own as the language writes them."""

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return kwargs[key] if isinstance(key, str) else args[key]


class Words(_English):
    """Says messages in one language."""

    def __init__(self, language: str) -> None:
        """`language` is a code of `languages()`."""
        self.language = language
        self._catalog = _catalog(language)
        self._marks: dict[int, str] = {}
        self._percent = "%"
        if language != ENGLISH:
            from babel import numbers  # Slow to import.

            self._marks = {ord("."): numbers.get_decimal_symbol(self.locale), ord(","): numbers.get_group_symbol(self.locale)}
            self._percent = numbers.format_percent(1, locale=self.locale).replace("100", "")

    @cached_property
    def locale(self) -> Any:
        """What Babel knows of the language."""
        from babel import Locale

        return Locale.parse(self.language)

    @property
    def name(self) -> str:
        """The language, in itself."""
        return str(self.locale.get_display_name())

    @property
    def vega(self) -> dict[str, Any]:
        """How charts write numbers in this language, as Vega's `config.locale` takes it."""
        point, comma = (self._marks.get(ord(mark), mark) for mark in ".,")
        return {"number": {"decimal": point, "thousands": comma, "grouping": [3], "currency": ["", ""]}}

    def __call__(self, text: str, /, **values: Any) -> str:
        """Return a message, or a text with its values, in this language."""
        message = text if isinstance(text, Message) else Message(text, values)
        if message.many and message.context:
            found = self._catalog.npgettext(message.context, message.template, message.many, message.n or 0)
        elif message.many:
            found = self._catalog.ngettext(message.template, message.many, message.n or 0)
        elif message.context:
            found = self._catalog.pgettext(message.context, message.template)
        else:
            # The empty text stands for the header of the file.
            found = self._catalog.gettext(message.template) if message.template else ""
        return self.vformat(found, (), message.values) if message.values else found

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, Message):
            return format(self(value), format_spec)
        if isinstance(value, int | float) and format_spec:
            return self.number(value, format_spec)
        return format(value, format_spec)

    def number(self, value: float, spec: str = ",") -> str:
        """Return a number, formatted as Python does by `spec`, with this language's marks and percent sign."""
        if spec.endswith("%"):
            return format(value * 100, f"{spec[:-1]}f").translate(self._marks) + self._percent
        return format(value, spec).translate(self._marks)

    def when(self, seconds: float) -> str:
        """Return a time, in seconds since the epoch, as date and hour of this machine in the manner of the language."""
        from babel.dates import format_datetime

        moment = datetime.fromtimestamp(seconds, UTC).astimezone().replace(tzinfo=None)
        return format_datetime(moment, "medium", locale=self.locale)


@lru_cache
def words(language: str) -> Words:
    """Return the words of a language; of one that there is no file for, English."""
    return Words(language if language in languages() else ENGLISH)


@lru_cache
def languages() -> tuple[str, ...]:
    """Return the codes of the languages that there are words for."""
    return (ENGLISH, *sorted(path.stem for path in FOLDER.glob("*.po")))


def nearest(*asked: str) -> str:
    """Return the first of the languages asked for, as browsers and environments name them, that there are words for."""
    for name in asked:
        code = name.replace("_", "-").split(".")[0].split("-")[0].lower()
        if code in languages():
            return code
    return ENGLISH


def _catalog(language: str) -> gettext.NullTranslations:
    if language == ENGLISH:
        return gettext.NullTranslations()
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po

    compiled = io.BytesIO()
    with (FOLDER / f"{language}.po").open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def _value(value: Any) -> Any:
    if isinstance(value, Message | bool | int | float) or type(value) is str:
        return value
    # An error says itself.
    said = getattr(value, "message", None)
    return said if isinstance(said, Message) else str(value)


def _restored(record: Any) -> Message:
    """Return the message that a record or a text was. ValueError if it is neither."""
    if isinstance(record, str):
        return record if isinstance(record, Message) else Message(record)
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise ValueError("not a message")
    try:
        values = {
            name: _restored(value) if isinstance(value, dict) else value for name, value in record.get("values", {}).items()
        }
        parts = {"many": record.get("many", ""), "n": record.get("n"), "context": record.get("context", "")}
        return Message(record["text"], values, **parts)
    except (LookupError, AttributeError, TypeError) as error:
        raise ValueError("not a message") from error


def _serialized(text: str, info: SerializationInfo) -> Any:
    return text.record() if info.context == KEEP and isinstance(text, Message) else str(text)


# A message as a field of a record: plain English in JSON, with its values where KEEP is the context.
Said = Annotated[str, PlainValidator(_restored), PlainSerializer(_serialized), WithJsonSchema({"type": "string"})]
