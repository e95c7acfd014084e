"""envs/coding in real sandboxes: what lasts, what ends, and what is graded."""

from __future__ import annotations

import os
from typing import Any

import psutil
import pytest

from envhub.errors import EnvironmentFailed, InvalidAction, InvalidOption
from envhub.hub.embedded import EmbeddedSession
from tests.sharing import nothing_leaks as nothing_leaks

DEPTH = len(psutil.Process().parents())
RIGHT = "def clamp(value, low, high):\n    return max(low, min(high, value))\n"


def step(env: EmbeddedSession, code: str, **fields: Any) -> Any:
    """Take a step and return its observation."""
    return env.step({"code": code, **fields}).observation


# ---------------------------------------------------------------- the interpreter


def test_names_and_files_last_for_the_episode(plain: EmbeddedSession) -> None:
    step(plain, "kept = 6\nopen('kept.txt', 'w').write('seven')")
    seen = step(plain, "print(kept, open('kept.txt').read())")

    assert (seen.stdout, seen.stderr, seen.exit_code, seen.cut, seen.ended) == (
        "6 seven\n",
        "",
        0,
        None,
        False,
    )


def test_a_reset_leaves_no_name_and_no_file(plain: EmbeddedSession) -> None:
    step(plain, "kept = 6\nfor d in ('', '/tmp/'): open(d + 'kept.txt', 'w').close()")
    plain.reset()
    seen = step(
        plain, "import os\nprint('kept' in globals(), os.listdir(), os.listdir('/tmp'))"
    )

    assert seen.stdout == "False [] []\n"


@pytest.mark.parametrize("leaving", ["exit(3)", "import os; os._exit(3)"])
def test_after_an_exit_the_next_step_starts_anew_on_the_same_files(
    plain: EmbeddedSession, leaving: str
) -> None:
    step(plain, "kept = 6\nopen('kept.txt', 'w').close()")
    ended = step(plain, f"print('last words', flush=True)\n{leaving}")
    after = step(plain, "import os\nprint('kept' in globals(), os.listdir())")

    assert (ended.exit_code, ended.ended, ended.stdout) == (3, True, "last words\n")
    assert (after.exit_code, after.ended, after.stdout) == (0, False, "False ['kept.txt']\n")


def test_an_interpreter_that_was_killed_between_two_steps_is_missed_by_the_next(
    plain: EmbeddedSession,
) -> None:
    """Its names are lost. A step that went on without them would be taken for the agent's."""
    step(plain, "kept = 6\nopen('kept.txt', 'w').close()")
    (interpreter,) = [p for p in psutil.Process().children(recursive=True) if is_agents(p)]
    interpreter.kill()
    while interpreter.is_running() and interpreter.status() != psutil.STATUS_ZOMBIE:
        os.sched_yield()
    missed = step(plain, "open('ran.txt', 'w').close()\nprint(kept)")
    after = step(plain, "import os\nprint('kept' in globals(), os.listdir())")

    assert (missed.exit_code, missed.cut, missed.ended) == (-9, "killed", True)
    assert (missed.stdout, missed.stderr) == ("", "")
    assert (after.exit_code, after.ended, after.stdout) == (0, False, "False ['kept.txt']\n")


def is_agents(process: psutil.Process) -> bool:
    """Whether it is an interpreter: below a runner there is a keeper, and then it."""
    words = " ".join(process.cmdline())
    return "envhub.runner" in words and len(process.parents()) - DEPTH == 4


def test_an_exception_is_a_traceback_and_ends_nothing(plain: EmbeddedSession) -> None:
    failed = step(plain, "kept = 6\n1 / 0")
    after = step(plain, "print(kept)")

    assert (failed.exit_code, failed.ended) == (1, False)
    assert failed.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert after.stdout == "6\n"


def test_a_timeout_keeps_what_was_printed_before_it(plain: EmbeddedSession) -> None:
    seen = step(plain, "print('before')\nwhile True: pass", timeout_s=0.5)

    assert (seen.stdout, seen.cut, seen.exit_code, seen.ended) == (
        "before\n",
        "timeout",
        None,
        True,
    )


def test_too_much_output_is_cut_and_the_rest_is_kept(plain: EmbeddedSession) -> None:
    seen = step(plain, "while True: print('x' * 1000)")

    assert (seen.cut, seen.ended, len(seen.stdout)) == ("output", True, 1024 * 1024)


def test_bytes_that_are_no_text_come_back_as_text(plain: EmbeddedSession) -> None:
    seen = step(
        plain, "import os\nos.write(1, b'a\\xff\\x00b')\nos.write(2, b'\\xed\\xa0\\x80')"
    )

    assert seen.stdout == "a\ufffd\x00b"
    assert seen.stderr == "\ufffd" * 3


@pytest.mark.parametrize("byte", [0xFF, 0x00])
def test_the_most_awkward_output_arrives_whole(plain: EmbeddedSession, byte: int) -> None:
    """One byte becomes six or more on its way; both streams together must still fit."""
    code = f"""
import os
for stream in (1, 2):
    for _ in range(15):
        os.write(stream, bytes([{byte}]) * 65536)
"""
    seen = step(plain, code)

    assert (seen.exit_code, len(seen.stdout), len(seen.stderr)) == (0, 983040, 983040)


def test_standard_input_is_read(plain: EmbeddedSession) -> None:
    seen = step(plain, "print(input(), input().upper())", stdin="one\nzwölf\n")

    assert seen.stdout == "one ZWÖLF\n"


def test_without_a_task_nothing_is_graded(plain: EmbeddedSession) -> None:
    result = plain.step({"code": RIGHT})

    assert (result.reward, result.done, result.metadata) == (None, False, {})


def test_a_wrong_action_is_refused_with_its_path(plain: EmbeddedSession) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "$.code"),
        ({"code": 1}, "$.code"),
        ({"code": "", "timeout_s": 0}, "$.timeout_s"),
        ({"code": "", "timeout_s": 61}, "$.timeout_s"),
        ({"code": "", "timeout_s": float("nan")}, "$.timeout_s"),
        ({"code": "x" * (256 * 1024 + 1)}, "$.code"),
        ({"code": "", "stdin": "x" * (256 * 1024 + 1)}, "$.stdin"),
        ({"code": "", "more": 1}, "$.more"),
    ]
    for action, path in wrong:
        with pytest.raises(InvalidAction) as caught:
            plain.step(action)

        assert f"`{path}`" in str(caught.value)


def test_the_longest_action_arrives(plain: EmbeddedSession) -> None:
    most = "\U0001f600" * (256 * 1024 - 20)
    seen = step(plain, f"print(len(input()), {len(most)}) #{most[:-20]}", stdin=most)

    assert seen.stdout == f"{len(most)} {len(most)}\n"


# ---------------------------------------------------------------- tasks


def test_a_reset_shows_the_prompt_and_the_state_counts_the_steps(
    posed: EmbeddedSession,
) -> None:
    observation = posed.reset(task="basics/0", task_set="basics", episode_id="mine").observation
    posed.step({"code": "pass"})

    assert observation.task == "basics/0"
    assert observation.prompt.startswith("def clamp(")
    assert posed.state == {"episode_id": "mine", "step_count": 1, "task": "basics/0"}


def test_a_seed_poses_a_task(env: EmbeddedSession) -> None:
    posed = [env.reset(seed=seed, task_set="basics").observation.task for seed in (3, 8, 4)]

    assert posed == ["basics/3", "basics/3", "basics/4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "basics/7", "task_set": "basics"}, "did you mean 'basics/"),
        ({"task_set": "basic"}, "did you mean 'basics'?"),
        ({"task_set": "../basics"}, "no task set '../basics'"),
        ({"task": 7}, "`task` must be a str or None, and is 7"),
    ],
)
def test_an_unknown_task_is_an_error_and_the_session_goes_on(
    env: EmbeddedSession, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(EnvironmentFailed) as caught:
        env.reset(**options)

    assert message in str(caught.value)
    assert env.reset(seed=0, task_set="basics").observation.task == "basics/0"


def test_an_unknown_option_is_refused(env: EmbeddedSession) -> None:
    with pytest.raises(InvalidOption, match="unknown reset option `taks`"):
        env.reset(taks="basics/0")


def test_a_right_solution_ends_the_episode_with_reward_1(posed: EmbeddedSession) -> None:
    result = posed.step({"code": RIGHT})

    assert (result.reward, result.terminated, result.metadata) == (
        1.0,
        True,
        {"grading": "passed"},
    )


def test_a_wrong_solution_may_be_followed_by_a_right_one(posed: EmbeddedSession) -> None:
    wrong = posed.step({"code": RIGHT.replace("max", "min")})
    other = posed.step({"code": "print('thinking')"})
    right = posed.step({"code": RIGHT})

    assert (wrong.reward, wrong.done, wrong.metadata.grading) == (0.0, False, "failed")
    assert (other.reward, other.done, other.metadata) == (None, False, {})
    assert (right.reward, right.done) == (1.0, True)


def test_only_this_steps_code_counts(posed: EmbeddedSession) -> None:
    posed.step({"code": "def help_me(a, b, c):\n    return max(b, min(c, a))\n"})
    result = posed.step({"code": "clamp = help_me\n"})

    assert (result.reward, result.metadata.grading) == (0.0, "program")


def test_a_program_that_never_ends_is_graded_within_its_own_timeout(
    posed: EmbeddedSession,
) -> None:
    result = posed.step({"code": RIGHT + "while True: pass", "timeout_s": 0.3})

    assert (result.reward, result.metadata.grading) == (0.0, "program")
    assert result.observation.cut == "timeout"


def test_what_the_program_prints_and_reads_does_not_matter(posed: EmbeddedSession) -> None:
    noisy = RIGHT.replace("    return", "    print('x' * 5000)\n    return")
    result = posed.step({"code": f"print('1.0')\ninput()\n{noisy}", "stdin": "line\n"})

    assert result.reward == 1.0
