"""`make_sb3_vec` where Stable-Baselines3 is not; tests/ecosystem/sb3 has the rest."""

from __future__ import annotations

import subprocess
import sys

NOT_INSTALLED = """
import sys
sys.modules["stable_baselines3"] = None  # as if it were not: Python's own way to say so
import envhub
make = envhub.make_sb3_vec
try:
    make("gym:CartPole-v1", 2)
except envhub.EnvhubError as error:
    print(type(error).__name__, error, error.hint, sep="; ")
"""


def test_where_it_is_not_installed_the_error_says_how() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOT_INSTALLED], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("UsageError; Stable-Baselines3 is not installed: ")
    assert done.stdout.endswith("; pip install 'envhub-rl[sb3]'\n")


def test_it_is_loaded_when_it_is_asked_for_and_not_before() -> None:
    code = (
        "import sys, envhub; envhub.make_sb3_vec;"
        " print([m for m in ('stable_baselines3', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
