# make test, make demo: the first call of either sets up $(VENV).
PYTHON ?= python3
VENV ?= .venv
# The versions last tested; torch 2.1, torchvision 0.16 and newer work.
TORCH ?= torch==2.14.1 torchvision==0.29.1
# `make test CONSTRAINTS=constraints.txt` installs the versions last tested of everything else, too.
CONSTRAINTS ?=
OUTPUT ?= output/demo
# Number of test processes with one thread each; `make test WORKERS=0` uses a single process.
WORKERS ?= 2
# The type checker; empty where torch or NumPy is too old for it.
TYPES ?= mypy
# `make test COVERAGE=--cov` also reports which lines the tests ran.
COVERAGE ?=

BIN := $(VENV)/bin
READY := $(VENV)/.resnest_d2-ready
PINS := $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))

.PHONY: test demo lint format docs setup clean

setup: $(READY)

$(READY): pyproject.toml tools/install_detectron2.py tools/no_deps.txt $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PINS) $(foreach r,$(TORCH),'$(r)')
	$(BIN)/python -m pip install --quiet $(PINS) --editable '.[test]'
	$(BIN)/python tools/install_detectron2.py
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement tools/no_deps.txt
	touch $@

test: $(READY) lint
	$(if $(filter-out 0,$(WORKERS)),OMP_NUM_THREADS=1) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations 15 $(COVERAGE)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(if $(TYPES),$(BIN)/$(TYPES))

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	$(BIN)/mkdocs build --strict

demo: $(OUTPUT)/results.json
	$(BIN)/python -W ignore tools/draw_predictions.py --config-file $(OUTPUT)/config.yaml \
	    --weights $(OUTPUT)/model_final.pth --output $(OUTPUT)/images --overwrite
	@echo "Metrics in $(OUTPUT)/results.json; 'make clean demo' trains again."

# Written at the end of training; an interrupted training is resumed.
$(OUTPUT)/results.json: | $(READY)
	$(BIN)/python train_net.py --resume \
	    --config-file configs/quick_schedules/mask_rcnn_ResNeSt_14_FPN_shapes.yaml \
	    TEST.EVAL_PERIOD 0 OUTPUT_DIR $(OUTPUT)

clean:
	rm -rf output dist build .pytest_cache .ruff_cache .mypy_cache .coverage*
