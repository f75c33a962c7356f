"""What reranking is worth: labelled questions through the pipeline, measured before and after."""

from rag_app.extras import require
from rag_app.words import msg

require("eval", msg("Evaluation needs more packages"))
