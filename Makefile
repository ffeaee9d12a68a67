PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# The folder of a CUDA torch >= 2.11 that $(PYTHON) already has; nothing where it has none.
HOST_TORCH = import pathlib, torch; \
  new = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 11); \
  print(pathlib.Path(torch.__file__).parents[1] if torch.version.cuda and new else "")

.PHONY: help report decision test lowest lint clean

help: ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /make \1	/p' $(MAKEFILE_LIST)

report: $(INSTALLED) ## measure what is missing or out of date, and write the gate report
	@$(BIN)/snakemake --cores 1 results/gate_report.md

decision: $(INSTALLED) ## the same with ten processes for each cell and check: a run that decides
	@$(BIN)/snakemake --cores 1 results/gate_report.md --configfile profiles/ci/decision.yaml

test: lint ## lint, then run every test
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lowest: $(INSTALLED) ## put the oldest versions that pyproject.toml allows into the environment, and test with them
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --prefer-binary $$($(BIN)/python .ci/lowest)
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --ignore tests/kernels/cuda/test_operator.py

lint: $(INSTALLED) ## check style, types and import directions
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/clang-format --dry-run --Werror nsa/kernels/*/csrc/*
	@$(BIN)/snakefmt --check Snakefile workflow
	@$(BIN)/snakemake --lint
	@$(BIN)/lint-imports
	@$(BIN)/mypy

clean: ## delete every result, measurements included, and the caches
	@if [ -d results ]; then find results/ -mindepth 1 -maxdepth 1 ! -name .gitkeep -exec rm -rf {} +; fi
	@rm -rf .snakemake .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# A host's own CUDA torch fits its driver, so it is used where there is one; it is seen through a .pth file because
# $(PYTHON) may itself be a virtual environment. Everything else has the version in constraints.txt.
$(INSTALLED): pyproject.toml constraints.txt
	@echo "installing into $(VENV), which takes minutes the first time"
	@$(PYTHON) -m venv $(VENV)
	@host=$$($(PYTHON) -c '$(HOST_TORCH)' 2> /dev/null || true); \
	if [ -n "$$host" ]; then \
	  echo "using the CUDA torch in $$host"; \
	  echo "$$host" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/host-torch.pth"; \
	  grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt; \
	else \
	  cp constraints.txt $(VENV)/constraints.txt; \
	fi
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint $(VENV)/constraints.txt --editable '.[dev]'
	@touch $@
