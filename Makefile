# make demo, make test: each sets up .venv by itself. Needs Python 3.11 or newer and make.
PORT ?= 8501
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN = .venv/bin
READY = .venv/ready

.PHONY: demo setup test check format lock corpus screenshots words

demo: setup
	$(BIN)/rag-app ingest data/corpus
	@echo
	$(BIN)/rag-app ask "How often should a Callisto C5 be recalibrated?"
	@echo
	@echo "The page: http://localhost:$(PORT)  (Ctrl-C stops)"
	@$(BIN)/streamlit run streamlit_app.py --server.port $(PORT) --logger.level error

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found: install one, or name it with make PYTHON=…" >&2; exit 2; }
	@echo "setting up .venv from requirements.lock: once, a minute or two"
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

# Two files at a time, in the order of their names: the journeys in a browser, which mostly wait, begin early.
test: setup
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_rooms.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Take newer versions within the ranges of pyproject.toml.
lock: setup
	$(BIN)/uv pip compile pyproject.toml --extra all --extra ocr --extra dev --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --no-header --no-annotate --quiet --output-file requirements.lock

# Build the PDF and DOCX files of the sample corpus from data/source.
corpus: setup
	$(BIN)/python data/build_corpus.py

# Take the README's pictures again; needs Chromium.
screenshots: setup
	$(BIN)/python data/take_pictures.py

# Bring the texts of the code into every language's file; what is new waits there for its words.
words: setup
	$(BIN)/pybabel -q extract -F pyproject.toml -k msg -k nmsg:1,2 -k pmsg:1c,2 -k t --no-location --sort-output \
		-o .venv/words.pot rag_app ingest
	for file in rag_app/locale/*.po; do $(BIN)/pybabel -q update -i .venv/words.pot -o $$file -l $$(basename $$file .po) \
		--no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date --width 120 || exit; done
