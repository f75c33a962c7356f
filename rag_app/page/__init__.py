"""The pages: thin over the pipeline and the ingest, which do the work. Names, wording and look are changed here."""

from rag_app.extras import require
from rag_app.words import msg

require("page", msg("The pages need more packages"))
