# Thin names over nox.  The first call sets up all it needs in .venv and .nox.
#   make demo [DIR=path]   build a text index over DIR (this checkout) with a real worker
#   make test              all tests
#   make lint types docs   style, layers and generated files; types; documentation
#   make bench             the speed table, as ratios of one run
PYTHON ?=
DIR ?=
ARGS ?=
NOX = .venv/bin/python -m nox

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
	@rm -rf .nox/reports
	@$(NOX) -s tests servers crash plugins redises packaging compat report

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
