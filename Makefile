# Two commands: `make demo` and `make test`. Both create the environment in .venv once.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint bench figures gpu-test gpu-train clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "avgen needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.ready
	$(BIN)/avgen demo --out demo_out

test: $(VENV)/.ready
	$(BIN)/python -m pytest -q

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Figures of the shipped weights, written to eval/results/.
figures: $(VENV)/.ready
	$(BIN)/avgen eval worlds --world bounce --world drums --count 256 --json eval/results/worlds-tiny.json
	$(BIN)/avgen eval worlds --world bounce --world drums --count 256 --untimed --json eval/results/worlds-tiny-untimed.json
	$(BIN)/avgen eval worlds --world talker --world engine --count 256 --json eval/results/worlds-tiny-others.json
	$(BIN)/avgen eval codecs --world bounce --world drums --world talker --world engine --count 32 --json eval/results/codecs-tiny.json

bench: $(VENV)/.ready
	$(BIN)/avgen bench --json eval/results/speed.json

# On a machine with a CUDA device: parity of the kernels, then the stages of the tiny model one after the other.
gpu-test: $(VENV)/.ready
	$(BIN)/python -m pytest -q -m gpu

gpu-train: $(VENV)/.ready
	$(BIN)/avgen prep worlds data/worlds --world bounce --world drums --world talker --world engine --count 20000 --workers 8
	$(BIN)/avgen train fit --config recipes/image.yaml --trainer.max_steps 5000
	$(BIN)/avgen train fit --config recipes/video.yaml --trainer.max_steps 20000
	$(BIN)/avgen train fit --config recipes/joint.yaml --trainer.max_steps 40000

clean:
	rm -rf demo_out runs .pytest_cache .ruff_cache
