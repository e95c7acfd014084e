"""What is played in each environment: actions that mean something there, and what is chance.

The keys are names of folders, as OpenEnv's repository has them. Everything else that is sent
is the same for all of them, and in `script.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.differential.masks import Mask, Words

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Play:
    """One environment's part of the script.

    Args:
        steps: valid actions, in order; the last ones end the episode, if there is an end.
        resets: options of resets before the one that begins the episode; of that one, too.
        bad: actions that are refused, or that fail, beside those that are for everybody.
        tools: names and arguments of tool calls.
        variables: that are set for both servers.
        masks: what is chance, or a matter of time.
    """

    steps: tuple[Json, ...]
    resets: tuple[Json, ...] = ({},)
    bad: tuple[Json, ...] = ()
    tools: tuple[tuple[str, Json], ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    masks: tuple[Mask | Words, ...] = ()


def _tool(name: str, **arguments: Any) -> Json:
    return {"type": "call_tool", "tool_name": name, "arguments": arguments}


_LIST = {"type": "list_tools"}
_SIDE = "which side the agent plays is drawn anew for each episode, from no seed"
_CHESS = (
    Mask(
        ("fen", "legal_moves", "is_check", "current_player", "move_history", "step_count",
         "reward", "metadata"),
        _SIDE,
        kinds=True,
    ),
    Words(r'(?<="is_check":"<any>","result":)(null|"[^"]*")', _SIDE),
)  # fmt: skip
_KERNEL = (
    Mask(
        ("problem_id", "problem_description", "reference_code"),
        "a reset that names no problem draws one, from no seed",
    ),
    Words(r"/tmp/tmp\w+/", "the name of a temporary folder"),
)
_SNAKE = (
    Mask(
        ("grid", "info", "reward", "done", "alive", "episode_score", "episode_fruits"),
        "where snake and fruit begin is drawn from no seed, and so is whether it hits a wall",
        kinds=True,
    ),
    Words(r'(?<="observation":)\[\[\[.*?\]\]\]', "the grid, once more"),
)
_SET = "the order of a set"
_REPL = (
    Mask(("execution_time", "total_execution_time"), "it is measured"),
    Mask(("available_variables", "namespace_keys"), _SET),
)

PLAYS: dict[str, Play] = {
    # ours, in tests/openenv/envs
    "accident_env": Play(steps=({"do": "count"}, {"do": "count"})),
    "counter_env": Play(
        steps=({"by": 1}, {"by": 2, "do": "variables"}, {"do": "folder"}, {"by": 9}),
        bad=({"do": "fail"}, {"do": "nothing"}, {"by": "x"}),
        variables={"COUNTER_STEP": "3"},
    ),
    "tools_env": Play(
        steps=(_LIST, _tool("add", number=4), _tool("add", number=3), _tool("fail")),
        bad=(_tool("nothing"), _tool("add"), _tool("add", number="x"), {"type": "call_tool"}),
        tools=(("add", {"number": 2}), ("fail", {}), ("nothing", {}), ("add", {"number": "x"})),
    ),
    "whole_env": Play(
        steps=({}, {"metadata": {"a": [1, None]}}),
        resets=({"level": 2},),
        masks=(Mask(("ticks", "step_count"), "its clock ticks in the background"),),
    ),
    # OpenEnv's
    "atari_env": Play(
        steps=({"action_id": 0}, {"action_id": 1}, {"action_id": 3, "game_name": "pong"}),
        bad=({"action_id": 99}, {"action_id": 0, "obs_type": "smell"}),
    ),
    "carla_env": Play(
        steps=(
            {"action_type": "observe"},
            {"action_type": "control", "throttle": 0.5, "steer": -0.1},
            {"action_type": "lane_change", "lane_direction": "left"},
            {"action_type": "emergency_stop"},
            {"action_type": "observe"},
        ),
        resets=({"scenario_name": "trolley_saves"}, {}),
        bad=({"action_type": "fly"}, {"throttle": 2}),
        variables={"CARLA_MODE": "mock"},
    ),
    "chess_env": Play(
        steps=({"move": "e2e4"}, {"move": "e7e5"}),
        resets=({"fen": "7k/8/8/8/8/8/8/K6R w - - 0 1"}, {}),
        bad=({"move": ""}, {"move": "z9z9"}),
        masks=_CHESS,
    ),
    "coding_env": Play(
        steps=(
            {"code": "x = 6 * 7\nprint(x)"},
            {"code": "print(x + 1)"},
            {"code": "1 / 0"},
            {"code": "import os"},
            {"code": "def"},
            {"code": "print('\u00e9\u4e2d\U0001f600\\x00')"},
        ),
        masks=(Words(r"Authorized imports are: \[[^]]*\]", _SET),),
    ),
    "coding_tools_env": Play(
        steps=(_LIST, _tool("ls"), _tool("bash", command="true"), _tool("submit_solution")),
        tools=(("ls", {}), ("submit_solution", {})),
    ),
    "connect4_env": Play(
        steps=tuple({"column": n} for n in (3, 2, 3, 2, 3, 2, 3)),
        bad=({"column": 9}, {"column": -1}, {"column": None}),
    ),
    "dipg_safety_env": Play(steps=({"llm_response": "I do not know"},)),
    "echo_env": Play(
        steps=(
            _LIST,
            _tool("echo_message", message="h\u00e9llo \U0001f600"),
            _tool("echo_with_length", message=""),
        ),
        bad=(_tool("nothing"), _tool("echo_message"), _tool("echo_message", message=3)),
        tools=(
            ("echo_message", {"message": "hi"}),
            ("echo_with_length", {"message": "h\u00e9"}),
            ("echo_message", {}),
            ("nothing", {}),
        ),
    ),
    "grid_world_env": Play(
        steps=tuple({"action": way} for way in ("UP", "DOWN", *["DOWN", "RIGHT"] * 4)),
        bad=({"action": "JUMP"}, {"action": "up"}),
    ),
    "julia_env": Play(steps=({"core_code": "1 + 1", "test_code": "@test true"},)),
    "jupyter_env": Play(steps=(_LIST,), tools=(("get_notebook_state", {}),)),
    "kernrl": Play(
        steps=({"code": "print(1)"}, {"code": "def"}),
        resets=({"problem_id": "nothing"}, {}, {"problem_id": "Softmax"}),
        bad=({"code": ""},),
        masks=_KERNEL,
    ),
    "maze_env": Play(
        steps=tuple({"action": way} for way in (0, 1, 2, 3, 1, 1, 3, 3)),
        bad=({"action": 77},),
    ),
    "opencode_env": Play(steps=(_LIST,)),
    "reasoning_gym_env": Play(
        steps=({"answer": "4"}, {"answer": "again"}),
        resets=(
            {"dataset_name": "leg_counting"},
            {"dataset_name": "nothing", "seed": 1, "size": 2},
            {"dataset_name": "leg_counting", "seed": 42, "size": 3},
            {},
        ),
    ),
    "repl_env": Play(
        steps=(
            {"code": "x = len(context)\nprint(x)"},
            {"code": "print(x"},
            {"code": "raise ValueError(3)"},
            {"code": "FINAL(x)"},
        ),
        resets=({"context": "a text", "task_prompt": "how long?", "expected_answer": "6"},),
        masks=_REPL,
    ),
    "snake_env": Play(
        steps=({"action": 0}, {"action": 1}, {"action": 0}, {"action": 2}),
        bad=({"action": 9},),
        masks=_SNAKE,
    ),
    "terminus_env": Play(steps=(_LIST,)),
    "websearch_env": Play(steps=({"query": "what is a hub?"},)),
    "wildfire_env": Play(
        steps=(
            {"action": "water", "x": 3, "y": 4},
            {"action": "break", "x": 0, "y": 0},
            {"action": "wait"},
            {"action": "nothing"},
        ),
        bad=({"action": "water", "x": "far"}, {"action": "water", "x": 999, "y": 0}),
    ),
}

_DOWNLOAD = "needs what has to be downloaded"
NOT_PLAYED: dict[str, str] = {
    "agent_world_model_env": f"{_DOWNLOAD}: its worlds",
    "browsergym_env": f"{_DOWNLOAD}: a browser",
    "calendar_env": "makes a server of its own, without `create_app`",
    "chat_env": f"{_DOWNLOAD}: a tokenizer",
    "dm_control_env": "its image has OSMesa and an older mujoco",
    "finqa_env": f"{_DOWNLOAD}: its data",
    "finrl_env": "its requirements contradict OpenEnv 0.10's",
    "git_env": "waits for a server of Gitea, 30 s in each session",
    "openapp_env": "its requirements contradict each other",
    "openspiel_env": "its image builds OpenSpiel, which its pyproject.toml does not name",
    "sumo_rl_env": "its image has the program `sumo`",
    "tbench2_env": f"{_DOWNLOAD}: its tasks",
    "textarena_env": f"{_DOWNLOAD}: its words",
    "unity_env": "needs Python 3.10.12",
}
