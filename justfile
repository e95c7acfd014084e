# Every recipe CI runs is here. `just` comes with the dev extra; `.venv/bin/just` runs it.

set quiet

python := ".venv/bin/python"

# List the recipes.
default:
    {{just_executable()}} --list --unsorted

# Make the virtual environment to work in.
setup:
    python3 -m venv .venv
    .venv/bin/pip install -q -e '.[dev]'

# Everything CI checks, in the order that fails fastest.
check: lint types test long

# Run the tests; arguments go to pytest.
test *args:
    {{python}} -m pytest -n 2 --dist loadfile {{args}}

# The tests that `test` leaves out: benchmarks, kills under load, imitated machines, hostile clients, OpenEnv's folders, Gymnasium's environments, others' clients.
long *args:
    {{python}} -m pytest -n 2 --dist loadfile tests/bench tests/chaos tests/contexts tests/differential tests/door/hostile tests/door/websocket/slow tests/ecosystem tests/fuzz tests/gym tests/openenv tests/sabotage tests/test_thousand.py {{args}}

# Only the attacks on the sandbox.
attacks *args:
    {{python}} -m pytest tests/sandbox tests/attacks {{args}}

# Delete each protection of the sandbox in turn: some attack must work then. Prints the table.
sabotage *args:
    {{python}} -m tests.sabotage {{args}}

# Kill, stop, cut and fill under load, for minutes: `just chaos --seed 1 --minutes 5`.
chaos *args:
    {{python}} -m tests.chaos {{args}}

# Only OpenEnv's own client against our server.
openenv *args:
    {{python}} -m pytest -m openenv {{args}}

# TRL, verifiers, and OpenEnv's clients of other versions against our server, as they come.
ecosystem *args:
    {{python}} -m pytest tests/ecosystem {{args}}

# Lint and check formatting.
lint:
    {{python}} -m ruff check
    {{python}} -m ruff format --check

# Apply every automatic fix.
fix:
    {{python}} -m ruff check --fix
    {{python}} -m ruff format

# Type-check.
types:
    {{python}} -m mypy

# The main job: HumanEval in sandboxes.
demo *args:
    .venv/bin/envhub demo {{args}}

# Serve the environments in ./envs.
serve *args:
    .venv/bin/envhub serve --envs envs {{args}}

# Measure, write bench/results, and print the table.
bench *args:
    {{python}} -m bench {{args}}

# Count lines, so growth is seen.
size:
    find envhub sandbox envs -name '*.py' | xargs wc -l | sort -n
