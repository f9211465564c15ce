# make demo    the main job on real images; writes demo/ (STUDY=FOLDER PROMPT="liver; spleen" for your own DICOM)
# make viewer  a PACS with the demo's studies, the gateway, and OHIF with MONAI Label, on loopback until Ctrl-C
# make check   the quick part of the tests, in parallel: an opinion on a change
# make test    every check and every test
# make lint    the checks that need no run
# Each sets up .venv first, once; it is set up again when pyproject.toml changes.

PYTHON ?= python3
BIN := .venv/bin
SET_UP := .venv/.set-up
TORCH := torch==2.13.0

STUDY ?=
PROMPT ?=

.PHONY: set-up demo viewer check test lint debian-packages

set-up: $(SET_UP)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

# torch first and by pip, which takes a CPU build where the machine's pip settings offer one; the constraint then keeps
# everything that follows from replacing it. uv, because it can leave out what MONAI Label pulls (see pyproject.toml).
$(SET_UP): pyproject.toml $(BIN)/python
	$(BIN)/python -m pip install --quiet '$(TORCH)' 'uv>=0.5'
	echo '$(TORCH)' > .venv/constraints.txt
	$(BIN)/uv pip install --python $(BIN)/python --constraint .venv/constraints.txt --editable '.[dev]'
	touch $@

debian-packages:
	.ci/debian-packages dcmtk dicom3tools plastimatch orthanc orthanc-dicomweb chromium postgresql systemd docker-compose

lint: $(SET_UP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

demo: $(SET_UP)
	$(BIN)/rcmed demo --output demo $(if $(STUDY),--study '$(STUDY)') $(if $(PROMPT),--prompt '$(PROMPT)')

viewer: $(SET_UP)
	.ci/debian-packages orthanc orthanc-dicomweb
	$(BIN)/rcmed viewer $(if $(STUDY),--study '$(STUDY)') $(if $(PROMPT),--prompt '$(PROMPT)')

check: $(SET_UP) lint
	$(BIN)/pytest -n auto -m 'not slow and not integration'

test: $(SET_UP) debian-packages lint
	$(BIN)/pytest -n auto -m 'not integration'
	$(BIN)/pytest -m integration
