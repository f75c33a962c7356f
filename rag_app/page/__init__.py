"""The pages: thin over the pipeline and the ingest, which do the work. Names, wording and look are changed here."""
