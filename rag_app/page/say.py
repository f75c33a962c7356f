"""What the page says, in the language of the visit, and choices that the address remembers."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import streamlit as st

from rag_app.page.visit import Widget
from rag_app.words import Words, nearest, words

Option = TypeVar("Option", bound=str)


def w() -> Words:
    """Return the words of this visit: of the language chosen, else the browser's, else English."""
    chosen = str(st.session_state.get(Widget.LANGUAGE, "auto"))
    return words(nearest(st.context.locale or "") if chosen == "auto" else chosen)


def t(text: str, /, **values: object) -> str:
    """Return a message, or a text with values in its places, in the language of this visit."""
    return w()(text, **values)


def remembered(draw: Callable[..., object], label: str, options: Mapping[Option, str], key: Widget, **more: Any) -> Option:
    """Draw a widget that offers options, as value and label, the first by default; the address remembers the value returned.

    Streamlit's own binding writes an option as it is shown, which is another text in another language.
    """
    default = next(iter(options))
    if key not in st.session_state:
        asked = st.query_params.get(key)
        st.session_state[key] = asked if asked in options else default
    draw(t(label), list(options), format_func=lambda option: t(options[option]), key=key, persist_state="session", **more)
    value = st.session_state.get(key) or default
    if value != default:
        st.query_params[key] = value
    elif key in st.query_params:
        del st.query_params[key]
    return cast("Option", value)
