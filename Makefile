# The one task runner. `make demo` and `make test` need Python 3.11 and make, nothing else.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCKS := deploy/locks
UV := $(BIN)/uv
INSTALLED := $(VENV)/.installed
TFJS := $(VENV)/tfjs
TFJS_INSTALLED := $(TFJS)/.installed
COMPILE := $(UV) pip compile pyproject.toml --quiet --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-package fitserve --no-emit-package fitserve-server

.PHONY: install demo up test test-full faults resume topics formats mutants check format catalog protos lock clean help

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED) $(TFJS_INSTALLED) ## Create .venv from the lock file and install the server and the client into it.

# pip brings uv, whose hash is locked too; uv installs the rest several times faster than pip would. Compiled
# ahead, TensorFlow imports in 3 s instead of 8 s where Python may not write .pyc files itself.
$(INSTALLED): $(LOCKS)/bootstrap.txt $(LOCKS)/dev.txt pyproject.toml client/pyproject.toml
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14), "fitserve needs Python 3.11 to 3.13"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r $(LOCKS)/bootstrap.txt
	VIRTUAL_ENV=$(VENV) $(UV) pip sync --quiet --compile-bytecode --require-hashes $(LOCKS)/dev.txt
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation --editable . --editable client
	touch $@

# TensorFlow.js lies apart: the requirements of its converter exclude our TensorFlow, and its runtime is npm's.
$(TFJS_INSTALLED): $(INSTALLED) $(LOCKS)/tfjs.txt $(LOCKS)/tfjs/package.json $(LOCKS)/tfjs/package-lock.json
	if ! command -v npm >/dev/null; then echo "no npm here: the format tfjs is left out"; exit; fi; \
	rm -rf $(TFJS) && mkdir $(TFJS) && cp $(LOCKS)/tfjs/*.json $(TFJS) && \
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --require-hashes --target $(TFJS)/python \
		-r $(LOCKS)/tfjs.txt && \
	npm ci --prefix $(TFJS) --silent --ignore-scripts --no-audit --no-fund && touch $@

demo: install ## From model.fit to a served version on the digits set, and a table of what came out.
	$(BIN)/fitserve demo

up: install ## Start the embedded stack: API :8000, gRPC serving :8500, REST serving :8501.
	$(BIN)/fitserve up

# In the order of their folders, which has the files that take minutes first: xdist's own order, most tests first,
# leaves one of them to the end, and a core idle meanwhile.
IN_PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

# What starts a fleet of its own takes every core, so it runs after the rest and not beside it.
test: install ## The covering slice: every test but those marked `full`.
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "not full and not alone" --ignore=tests/faults
	$(BIN)/python -m pytest tests/acceptance -m alone
	$(BIN)/python -m pytest tests/faults -m "not full"

test-full: install ## Every test.
	$(BIN)/python -m pytest $(IN_PARALLEL)

faults: install ## Real jobs under random kills and freezes, on SQLite and PostgreSQL, and the control; then each fault.
	$(BIN)/python -m tests.faults --database sqlite
	$(BIN)/python -m tests.faults --database postgresql
	$(BIN)/python -m tests.faults --control
	$(BIN)/python -m pytest tests/faults -m full

resume: install ## Kill training everywhere: weights and curves equal the undisturbed run's, to the bit.
	$(BIN)/python -m tests.resume

topics: install ## Train every example through a running stack, and write docs/topics.md from what came out.
	$(BIN)/python -m tests.topics

formats: install ## Export every architecture to every format, and write docs/formats.md from what came out.
	$(BIN)/python -m pytest tests/formats -m full --write-formats

mutants: install ## Take out each guard in turn, and name the test that misses it.
	$(BIN)/python -m tests.mutants

check: install ## Format, lint, types, import rules: what CI checks.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -c "import service.app, sys; assert 'tensorflow' not in sys.modules"

format: install ## Format and mend what the linter can mend.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

catalog: install ## Write trainer/catalog.json anew from the installed Keras.
	$(BIN)/python -m trainer.catalog --write

# An old protoc on purpose: what it writes is read by every protobuf from 6.31 on.
PROTOC := $(UV) run --quiet --no-project --isolated --python 3.11 --with grpcio-tools==1.75.1 python -m grpc_tools.protoc

protos: install ## Write the protobuf modules of the client and of a benchmark anew.
	$(PROTOC) -I client/protos --python_out=client --pyi_out=client \
		fitserve/_protos/tensor.proto fitserve/_protos/serving.proto
	$(PROTOC) -I . --python_out=. --pyi_out=. benchmarks/protos/inference.proto

lock: ## Resolve the lock files again (writes deploy/locks).
	test -x $(UV) || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; }
	$(COMPILE) --extra embedded --extra cloud --group dev -o $(LOCKS)/dev.txt
	$(COMPILE) -c $(LOCKS)/dev.txt -o $(LOCKS)/api.txt
	$(COMPILE) -c $(LOCKS)/dev.txt --extra worker --extra cloud -o $(LOCKS)/worker.txt
	deploy/accelerators/lock.sh
	echo tensorflowjs==4.22.0 | $(UV) pip compile - --quiet --no-deps --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links -o $(LOCKS)/tfjs.txt
	npm install --prefix $(LOCKS)/tfjs --package-lock-only --omit-lockfile-registry-resolved --silent
	grep -A1000 '^uv==' $(LOCKS)/dev.txt | awk 'NR==1 || /^ +--hash/ {print; next} {exit}' > $(LOCKS)/bootstrap.txt

clean: ## Remove what the other targets made.
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
