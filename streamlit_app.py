"""The application: its pages, and what is served beside them. Run: `streamlit run streamlit_app.py`."""

from streamlit.starlette import App

from rag_app.page.originals import MIDDLEWARE, ROUTES

app = App("rag_app/page/script.py", routes=ROUTES, middleware=MIDDLEWARE)
