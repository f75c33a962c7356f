"""What reranking is worth: labelled questions through the pipeline, measured before and after."""
