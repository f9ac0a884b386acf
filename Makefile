# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin
INSTALL = $(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check docs bench clean

demo: $(VENV)/.installed  ## set up, then the whole pipeline on the embedded clips and networks
	$(RUN)/concerto-laq demo --output demo_output

test: check docs $(VENV)/.installed-test  ## set up, check, build the docs, then all tests
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest -n 2  # a thread each: more would wait for one another

check: $(VENV)/.installed-test  ## format, lint, types: what CI runs first
	$(RUN)/ruff format --check laq tests benchmarks examples
	$(RUN)/ruff check laq tests benchmarks examples
	$(RUN)/mypy

docs: $(VENV)/.installed-test  ## the documentation as a site in build/site, every link checked
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict
	! grep -rlE '(src|rel="stylesheet" href)="(https?:)?//' build/site --include='*.html'  # readers fetch nothing

bench: $(VENV)/.installed-test  ## measure; prints machine, versions, medians
	for name in vggt ptv3 encoder decoding laq_step feature_store; do $(RUN)/python benchmarks/$$name.py || exit 1; done

# torch goes first and alone: named by its exact version, no other package can pull another build.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) $$($(PYTHON) -c "print(next(l for l in open('constraints.txt') if l.startswith('torch==')))")
	$(INSTALL) -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(INSTALL) -e ".[test,dev,docs]"
	touch $@

clean:
	rm -rf $(VENV) demo_output build laq/*.egg-info
