"""The lexical index: BM25 over the terms of chunks, beside the vectors; a local cache of the store, never a second truth."""
