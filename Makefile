# Thin names over nox.  The first call sets up all it needs in .venv and .nox.
#   make demo [DIR=path]   build a text index over DIR (this checkout) with a real worker
#   make test              all tests
#   make lint types docs   style, layers and generated files; types; documentation
#   make bench             the speed table, as ratios of one run
PYTHON ?=
DIR ?=
ARGS ?=
NOX = .venv/bin/python -m nox
# Tests that hold nobody to times: they run beside those that do.
BESIDE = quick redises packaging compat

.DEFAULT_GOAL := help
.PHONY: help ready demo test lint types docs bench wheelhouse format clean distclean

help:
	@sed -n 's/^#   //p' Makefile

.venv/.ready: .ci/bootstrap constraints.txt
	@PYTHON="$(PYTHON)" sh .ci/bootstrap

ready: .venv/.ready
	@$(NOX) -s ready

demo: .venv/.ready
	@$(NOX) -s demo -- $(if $(DIR),"$(DIR)") $(ARGS)

test: .venv/.ready
	@sh .ci/servers
	@rm -rf .nox/reports && mkdir -p .nox
	@$(NOX) -s ready
	@echo "beside these, with what they leave of the processors: $(BESIDE) (.nox/beside.log)"
	@nice -n 10 $(NOX) -s $(BESIDE) >.nox/beside.log 2>&1 & beside=$$!; failed=0; \
	$(NOX) -s processes servers plugins crash || failed=1; \
	wait $$beside || failed=1; \
	cat .nox/beside.log; \
	$(NOX) -s report || failed=1; \
	exit $$failed

lint: .venv/.ready
	@$(NOX) -s lint

types: .venv/.ready
	@$(NOX) -s types

docs: .venv/.ready
	@$(NOX) -s docs

bench: .venv/.ready
	@$(NOX) -s bench -- $(ARGS)

wheelhouse: .venv/.ready
	@$(NOX) -s wheelhouse

format: .venv/.ready
	@$(NOX) -s format

clean:
	rm -rf .nox dist build docs/_build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv .bench
