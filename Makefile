# Every target sets up what it needs; nothing is done twice.
MODEL ?= enko
VENV  ?= .venv
# The interpreter for the environment: 3.11 or 3.10, the first that is there.
PYTHON ?= $(shell for p in python3.11 python3.10 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))' 2>/dev/null && { echo $$p; break; }; done)
# TensorRT 8.5's wheel is for 3.10 alone, which pyenv may have without showing it.
PYTHON310 ?= $(shell for p in python3.10 "$$(pyenv prefix 3.10 2>/dev/null)/bin/python3.10" python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null && { echo $$p; break; }; done)
READY := $(VENV)/.ready
BIN   := $(VENV)/bin
ARGS  ?=
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --require-hashes

.DEFAULT_GOAL := help
.PHONY: help install environments optimize sweep serve inspect doctor test test-fast lint bench docs lock clean clean-all

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo "  MODEL=enko by default: any configs/MODEL.yaml. ARGS='...' is passed on to trt-pipeline."

install: $(READY) ## The environment, from the lock, hashes checked

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "trt_pipeline needs Python 3.10 or 3.11: install one, or name it with PYTHON=..." >&2; exit 3; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked dependencies into $(VENV) (about a minute, once)"
	@$(BIN)/python $(PIP_INSTALL) -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

environments: ## Four more, with the other TensorFlows and the TensorRTs that the tests need
	@$(MAKE) --no-print-directory -j2 $(READY) .venv-trt8.5/.ready .venv-tf2.17/.ready .venv-tf2.21/.ready .venv-trt11/.ready

.venv-tf%/.ready: tests/environments/tensorflow-%.lock
	@test -n "$(PYTHON)" || { echo "trt_pipeline needs Python 3.10 or 3.11: install one, or name it with PYTHON=..." >&2; exit 3; }
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@echo "Installing TensorFlow $* into $(@D) (about a minute, once)"
	@$(@D)/bin/python $(PIP_INSTALL) -r $<
	@touch $@

.venv-trt8.5/.ready: tests/environments/tensorrt-8.5.lock
	@test -n "$(PYTHON310)" || { echo "TensorRT 8.5 needs Python 3.10: install it, or name it with PYTHON310=..." >&2; exit 3; }
	@test -x $(@D)/bin/python || $(PYTHON310) -m venv $(@D)
	@echo "Installing TensorRT 8.5 into $(@D) (about a minute, once)"
	@$(@D)/bin/python $(PIP_INSTALL) -r $<
	@touch $@

.venv-trt11/.ready: tests/environments/tensorrt-11.lock tests/environments/tensorrt_11.py
	@test -n "$(PYTHON)" || { echo "trt_pipeline needs Python 3.10 or 3.11: install one, or name it with PYTHON=..." >&2; exit 3; }
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@echo "Installing the bindings of TensorRT 11 into $(@D)"
	@$(@D)/bin/python $(PIP_INSTALL) -r $<
	@$(@D)/bin/python tests/environments/tensorrt_11.py
	@touch $@

optimize: $(READY) ## Judge every candidate of MODEL, publish the best to serving/
	@$(BIN)/trt-pipeline optimize $(MODEL) $(ARGS)

sweep: $(READY) ## Judge every candidate of MODEL, publish nothing
	@$(BIN)/trt-pipeline sweep $(MODEL) $(ARGS)

serve: $(READY) ## Serve what is published over TensorFlow Serving's gRPC and REST APIs
	@$(BIN)/trt-pipeline serve $(ARGS)

inspect: $(READY) ## Contract and operations of MODEL
	@$(BIN)/trt-pipeline inspect models/$(MODEL)/1 $(ARGS)

doctor: $(READY) ## What this machine can do
	@$(BIN)/trt-pipeline doctor $(ARGS)

test: environments lint ## Lint, types and all tests
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not alone" $(ARGS)
	@$(BIN)/python -m pytest -m alone $(ARGS) || test $$? -eq 5  # 5: ARGS chose none of these

test-fast: $(READY) ## The tests that take seconds
	@$(BIN)/python -m pytest -m "not slow" $(ARGS)

lint: $(READY) ## Ruff and mypy
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

bench: $(READY) ## ResNet50 and a BERT-base encoder against the original: the figures of docs/benchmarks.md
	@$(BIN)/python -m benchmarks $(ARGS)

docs: $(READY) ## The documentation as a site in site/, every link checked
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet && echo "site/index.html written"

# uv writes no addresses into a lock unless it is asked to. Extras stay: without, pip misses the pin of what asks for one.
LOCK := uv pip compile --universal --python-version 3.10 --fork-strategy fewest --generate-hashes \
	--no-header --no-annotate --no-strip-extras

lock: ## Make requirements.lock and the locks of the environments anew (needs uv)
	$(LOCK) pyproject.toml --constraint constraints.txt --extra dev --extra serving --extra cluster --extra mlflow --extra docs \
		--output-file requirements.lock
	$(LOCK) tests/environments/tensorflow-2.17.in --output-file tests/environments/tensorflow-2.17.lock
	$(LOCK) tests/environments/tensorflow-2.21.in --output-file tests/environments/tensorflow-2.21.lock
	$(LOCK) tests/environments/tensorrt-8.5.in --output-file tests/environments/tensorrt-8.5.lock
	$(LOCK) tests/environments/tensorrt-11.in --output-file tests/environments/tensorrt-11.lock

clean: ## Remove run folders and publications
	rm -rf artifacts serving build site .mypy_cache .pytest_cache .ruff_cache

clean-all: clean ## Remove the environments too
	rm -rf $(VENV) .venv-tf* .venv-trt* *.egg-info
