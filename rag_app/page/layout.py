"""What every visit begins with: look, language, and the pages with their addresses."""

from pathlib import Path
from typing import Any

import streamlit as st

from rag_app.extras import MissingExtraError
from rag_app.page import ask, connections, documents, resources, states
from rag_app.page.say import address, t, to_address
from rag_app.words import languages, msg, words

LANGUAGE = msg("Language")
CSS = Path(__file__).with_name("style.css")


def main() -> None:
    title, icon = resources.title_and_icon()
    st.set_page_config(page_title=title, page_icon=icon, layout="wide")
    st.html(CSS)
    controls = st.sidebar.container()
    codes = ["auto", *languages()]
    address("lang", codes, "auto")
    with st.sidebar:
        st.selectbox(
            " · ".join(words(code)(LANGUAGE) for code in languages()),
            codes,
            format_func=lambda code: t("Auto") if code == "auto" else words(code).name,
            key="lang",
            persist_state="session",
            filter_mode=None,
        )
    to_address("lang", "auto")
    pages = {
        "ask": st.Page(lambda: ask.page(controls), title=t("Ask"), icon=":material/forum:", url_path="ask", default=True),
        "evaluate": st.Page(
            lambda: evaluation(controls), title=t("Evaluate"), icon=":material/straighten:", url_path="evaluate"
        ),
        "documents": st.Page(
            lambda: documents.page(controls), title=t("Documents"), icon=":material/folder_open:", url_path="documents"
        ),
        "connections": st.Page(
            lambda: connections.page(), title=t("Connections"), icon=":material/cable:", url_path="connections"
        ),
    }
    st.session_state["pages"] = pages
    st.navigation(list(pages.values()), position="top").run()


def evaluation(controls: Any) -> None:
    """Show the page Evaluate; its statistics take a second to load, which nobody else waits for."""
    try:
        from rag_app.page import evaluate
    except MissingExtraError as error:
        states.show_error(error)
        return
    evaluate.page(controls)
