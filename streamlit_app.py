"""The application: its pages, and what is served beside them. Run: `streamlit run streamlit_app.py`.

`rag_app/page/navigation.py` lists the pages.
"""

import sys

from rag_app.extras import MissingExtraError

try:
    from rag_app.page.originals import MIDDLEWARE, ROUTES
except MissingExtraError as error:
    sys.exit(f"error: {error}")

from streamlit.starlette import App

app = App("rag_app/page/script.py", routes=ROUTES, middleware=MIDDLEWARE)
