# Two commands do everything on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1

.PHONY: demo serve test lint editor editor-check chromium voice bench bench-editor bench-gpu bench-gpu-compile bench-gpu-plot docs install clean

demo: install
	$(BIN)/anyloom demo --out out/demo

serve: editor
	$(BIN)/anyloom serve

# What does not wait for each other is done side by side: mypy takes as long as the editor's own checks.
test: install
	$(MAKE) --no-print-directory -j2 --output-sync=target lint editor-check chromium voice
	$(BIN)/python -m pytest -q -n auto --dist loadfile

lint: install
	$(BIN)/ruff check graph_engine nodes web custom_kernels tests workflows docs
	$(BIN)/mypy
	$(BIN)/lint-imports

# The browser editor, where its sources have changed. Installing the package builds it too.
editor: install
	$(BIN)/python build_editor.py

# Types, rules and unit tests of the editor. Where there is no npm, this is left out: the bundle was built without it.
editor-check: editor
	@if command -v npm >/dev/null && test "$(ANYLOOM_SKIP_EDITOR)" != 1; then cd web/editor && \
		{ test -d node_modules/vitest || npm ci --ignore-scripts --no-audit --no-fund; } && npm run --silent check && npm run --silent lint && npm run --silent test; \
		else echo "no npm: the editor's own tests are left out"; fi

# Programs of Debian's that tests run: a browser for the editor's scenarios, a voice for narrations. Where they cannot be
# installed, those tests are skipped and say so.
debian = @command -v $(1) >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	{ apt-get install -y -qq $(1) || { apt-get update -qq && apt-get install -y -qq $(1); }; } >/dev/null; } || echo "no $(1)"

chromium:
	$(call debian,chromium)

# After the browser: apt-get locks out a second one.
voice: chromium
	$(call debian,espeak-ng)

bench-editor: editor chromium
	$(BIN)/python -m tests.bench.editor

bench: install
	$(BIN)/python -m tests.bench.scheduling

# Needs a CUDA device, and takes the python at hand where the environment above was not made: on a borrowed machine.
# All within eight minutes. A row that is wrong does not keep the others from running, nor does one that breaks the device: each
# model has a process of its own. OUT: where the tables go. MODELS: which denoisers.
MODELS ?= sd15 zeroscope audioldm
bench-gpu bench-gpu-compile bench-gpu-plot: python := $(or $(wildcard $(BIN)/python),$(PYTHON))
bench-gpu bench-gpu-compile bench-gpu-plot: tables := $(or $(OUT),out)/bench

bench-gpu:
	ended=0; \
	$(python) -m tests.bench.kernels --minutes 3 --csv $(tables)/kernels.csv || ended=1; \
	for model in $(MODELS); do \
		$(python) -m tests.bench.unets --models $$model --quick --minutes 1.5 --csv $(tables)/unets-$$model.csv || ended=1; \
	done; \
	exit $$ended

# The bars that compare with torch.compile. Up to nine and a half minutes for each of MODELS: on a machine that runs a command for
# ten minutes, one model each.
bench-gpu-compile:
	ended=0; \
	for model in $(MODELS); do \
		timeout -k 10 570 $(python) -m tests.bench.unets --models $$model \
			--ways eager ours+graph compile reduce-overhead max-autotune --minutes 5 --compile-seconds 220 \
			--csv $(tables)/unets-$$model-compiled.csv || ended=1; \
	done; \
	exit $$ended

# Draws what these two wrote.
bench-gpu-plot:
	$(python) -m tests.bench.kernels_plot $(tables)/kernels.csv $(tables)/kernels.svg
	$(python) -m tests.bench.kernels_plot $(sort $(wildcard $(tables)/unets-*.csv)) $(tables)/unets.svg

# The parts of the documents that are made from the code; a test fails when they are out of date.
docs: install
	$(BIN)/python -m docs.node_list
	$(BIN)/python -m docs.house
	$(BIN)/python -m docs.routes
	$(BIN)/python -m docs.draw_graph workflows/any_to_any.json docs/any_to_any.png

install: $(VENV)/installed

# torch first and by itself: its exact version keeps pip from looking for others.
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check $(shell grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf web/static/editor web/editor/node_modules
	rm -rf $(VENV) out data .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
