# make test, make demo: each sets up $(VENV) first; the second call finds it there.
PYTHON ?= python3
VENV ?= .venv
# The pair this was last tested with; any from torch 2.1 and torchvision 0.16 on will do.
TORCH ?= torch==2.14.1 torchvision==0.29.1
OUTPUT ?= output/demo
# Processes that share the tests, a thread each; `make test WORKERS=0` runs them one by one.
WORKERS ?= 2

BIN := $(VENV)/bin
READY := $(VENV)/.resnest_d2-ready

.PHONY: test demo lint format docs setup clean

setup: $(READY)

$(READY): pyproject.toml tools/install_detectron2.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(foreach r,$(TORCH),'$(r)')
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	$(BIN)/python tools/install_detectron2.py
	# Without what it asks for: opencv-python would overwrite opencv-python-headless.
	$(BIN)/python -m pip install --quiet --no-deps 'sahi>=0.11'
	touch $@

test: $(READY) lint
	$(if $(filter-out 0,$(WORKERS)),OMP_NUM_THREADS=1) $(BIN)/python -m pytest -n $(WORKERS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	$(BIN)/mkdocs build --strict

demo: $(OUTPUT)/results.json
	$(BIN)/python tools/draw_predictions.py --config-file $(OUTPUT)/config.yaml \
	    --weights $(OUTPUT)/model_final.pth --output $(OUTPUT)/images --threshold 0.8
	@echo "Metrics in $(OUTPUT)/results.json; 'make clean demo' trains anew."

# Written when the training is over; a training that was stopped goes on where it was.
$(OUTPUT)/results.json: | $(READY)
	$(BIN)/python train_net.py --resume \
	    --config-file configs/quick_schedules/mask_rcnn_ResNeSt_14_FPN_shapes.yaml OUTPUT_DIR $(OUTPUT)

clean:
	rm -rf output dist build .pytest_cache .ruff_cache
