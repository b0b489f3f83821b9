# Two commands to know: `make run` starts the platform, `make demo` shows it. Nothing but Python 3.11+ is needed.

# The first interpreter that is new enough and can make a virtual environment; or choose: make run PYTHON=...
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
MANAGE := $(BIN)/python manage.py
WORKERS ?= 2
OPTIONS = $(if $(PORT),--port $(PORT)) $(if $(HOST),--host $(HOST)) $(if $(DATA),--data $(DATA)) $(if $(BROKERS),--brokers $(BROKERS))

# Some shells forbid it, and each start would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

# The hashes pin everything; --no-deps because requirements/overrides.txt leaves out what nobody uses.
define install
	@$(BIN)/uv pip install -q --system-certs --python $(BIN)/python --compile-bytecode --no-deps --require-hashes -r $(1) \
		|| $(BIN)/python -m pip install -q --no-deps --require-hashes -r $(1)
endef

.PHONY: run demo admin test contract check fuzz bench production-smoke requirements

run: $(VENV)/embedded
	@$(MANAGE) run_embedded $(OPTIONS)

demo: $(VENV)/embedded
	@$(MANAGE) demo $(if $(BROKERS),--brokers $(BROKERS)) $(ARGS)

admin: $(VENV)/embedded
	@$(if $(DATA),VAR_DIR=$(abspath $(DATA))) $(MANAGE) createsuperuser

# All but the contract of the brokers, which has a target and a table of its own.
test: $(VENV)/dev
	$(BIN)/pytest -q -n $(WORKERS) --dist loadgroup $(or $(ARGS),--ignore=tests/brokerages/contract)

# Every broker against the same checks: the matrix, and exit code 1 if one fails.
contract: $(VENV)/dev
	@$(BIN)/python -m tests.brokerages.contract -n $(WORKERS) $(ARGS)

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy config trading marketdata brokerages accounts audit
	$(BIN)/python -W ignore manage.py makemigrations --check --dry-run --settings=config.settings.test
	@echo "check --deploy with production settings"
	@env $$($(BIN)/python -m config.secretfile) DATABASE_URL=postgresql://sauda@127.0.0.1/sauda \
		REDIS_URL=redis://127.0.0.1/0 ALLOWED_HOSTS=sauda.invalid PUBLIC_URL=https://sauda.invalid \
		EMAIL_HOST=127.0.0.1 DEFAULT_FROM_EMAIL=no-reply@sauda.invalid \
		$(MANAGE) check --deploy --fail-level WARNING --settings=config.settings.production

# Schemathesis over every operation of the API description, in some four minutes.
fuzz: $(VENV)/dev
	@$(BIN)/python -m tests.contract.fuzz $(ARGS)

bench: $(VENV)/dev
	$(BIN)/python -m bench $(ARGS)

production-smoke: $(VENV)/dev
	@$(MANAGE) production_smoke --settings=config.settings.embedded

# Needs a registry; the others only where the versions below are not installed yet.
requirements: $(BIN)/uv
	@for name in base embedded production dev uv; do \
		UV_CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/uv pip compile -q --upgrade --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--override requirements/overrides.txt requirements/$$name.in -o requirements/$$name.txt; done

$(BIN)/uv: requirements/uv.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with the venv module is needed (Debian: apt install python3-venv)."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/embedded: requirements/embedded.txt | $(BIN)/uv
	@echo "Installing into $(VENV) ..."
	$(call install,requirements/embedded.txt)
	@touch $@

$(VENV)/dev: requirements/dev.txt | $(BIN)/uv
	@echo "Installing into $(VENV) ..."
	$(call install,requirements/dev.txt)
	@touch $(VENV)/embedded $@
