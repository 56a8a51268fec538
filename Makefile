# make demo | make test: everything else builds on these two. Nothing but Python 3.10 to 3.12 is needed.
PYTHON ?= python3
FRAMEWORK ?= pytorch
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

extra_pytorch := torch
extra_tensorflow := tensorflow
extra_mindspore := mindspore

.PHONY: demo test lint venv clean

demo: $(VENV)/.$(FRAMEWORK)
	$(BIN)/python demos/demo.py --framework $(FRAMEWORK)

test: $(VENV)/.all
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/mypy

venv: $(VENV)/.all

$(BIN)/python:
	$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else f'Python 3.10 to 3.12 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.11')"
	$(PYTHON) -m venv $(VENV)

# torch by its exact version first: another package's open range would bring the CUDA build.
$(VENV)/.pytorch $(VENV)/.tensorflow $(VENV)/.mindspore: $(VENV)/.%: $(BIN)/python pyproject.toml constraints.txt
	@if [ "$*" = pytorch ]; then $(PIP) torch==2.13.0; fi
	$(PIP) -e ".[$(extra_$*),onnx,mslite,cann,report,demo]"
	@touch $@

# Other people's checks of what we write. The serving stubs ask for another TensorFlow package, and torch-npu's
# wheel, whose descriptors are read, must not be installed: it makes "import torch" load CANN.
$(VENV)/.all: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) torch==2.13.0
	$(PIP) -e ".[all,demo,test]"
	$(PIP) --no-deps tensorflow-serving-api
	$(BIN)/python -m pip download --disable-pip-version-check -q -c constraints.txt --no-deps -d $(VENV)/peers \
		--only-binary :all: --python-version 3.11 --platform manylinux_2_28_x86_64 torch-npu
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache demos/out
