"""The words of the interface, in English and Chinese. A third language is another table beside chinese.py."""

from collections.abc import Iterable

import streamlit as st

from rag_app.page import chinese

LANGUAGES = {"auto": "Auto", "en": "English", "zh": "中文"}


def language() -> str:
    """Return the language of this session: what was chosen, else the browser's, else English."""
    chosen = st.session_state.get("lang", "auto")
    if chosen in ("en", "zh"):
        return str(chosen)
    return "zh" if (st.context.locale or "").lower().startswith("zh") else "en"


def t(text: str, /, **values: object) -> str:
    """Return a text of the interface in the session's language, with values in its places."""
    said = chinese.TABLE.get(text, text) if language() == "zh" else text
    return said.format(**values) if values else said


def later(text: str) -> str:
    """Mark a text that is translated where it is shown; the test for missing ones finds it by this."""
    return text


def address(name: str, options: Iterable[str], default: str) -> None:
    """Let the value of a widget that follows, with this key, begin as the address says it."""
    if name not in st.session_state:
        asked = st.query_params.get(name, default)
        st.session_state[name] = asked if asked in options else default


def to_address(name: str, default: str) -> str:
    """Write the value of a widget into the address, unless it is the default, and return it.

    Streamlit's own binding writes what is shown of an option, which is another text in another language.
    """
    value = str(st.session_state.get(name) or default)
    if value != default:
        st.query_params[name] = value
    elif name in st.query_params:
        del st.query_params[name]
    return value
