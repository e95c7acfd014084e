"""Which tier a hub takes, and what it refuses below it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import envhub
from envhub import Hub
from envhub.errors import EnvironmentFailed, UsageError, WorkerStartFailed
from envhub.hub.workers.starter import Starter
from envhub_sandbox import TIERS, Grade, LayerFailed, landlock
from tests.conftest import ENVS

PROBES = Path(__file__).parent / "envs"
BELOW = ["standard", *(["uid"] if os.geteuid() == 0 else []), "landlock"]
fenced = pytest.mark.skipif(landlock.version() < 6, reason="needs Linux 6.12's Landlock")


@pytest.mark.parametrize("minimum", [*TIERS[:-1], "best"])
async def test_a_minimum_is_one_and_the_highest_that_works_is_taken(minimum: str) -> None:
    async with Hub(PROBES, isolation=minimum) as hub, hub.session("probe") as env:
        assert env.receipt.tier == "strict"
        assert env.receipt.missing == ()


@fenced
@pytest.mark.parametrize("tier", BELOW)
async def test_a_lower_tier_is_taken_exactly_and_says_what_it_is_without(tier: str) -> None:
    async with Hub(PROBES, isolation=tier, exactly=True) as hub, hub.session("probe") as env:
        await env.reset()
        receipt = env.receipt

    assert receipt.tier == tier
    assert receipt.missing == Starter(tier, exactly=True).grade.missing
    assert {"seccomp", "no capabilities", "no new privileges"} <= {*receipt.seen}
    assert ("user of its own" in receipt.seen) is (tier == "uid")


@fenced
@pytest.mark.parametrize("tier", BELOW)
async def test_agent_code_runs_in_each_tier_and_cannot_end_its_keeper(tier: str) -> None:
    async with Hub(ENVS, isolation=tier, exactly=True) as hub, hub.session("coding") as env:
        await env.reset()
        said = [
            (await env.step({"code": code})).observation.stdout
            for code in (
                "open('kept', 'w').write('!')\nprint(input())",
                "import os\nos.kill(-1, 9)",
                "print(open('kept').read())",
            )
        ]
        assert env.output == ""

    assert said == ["", "", "!\n"]  # nothing was given to read


@fenced
@pytest.mark.parametrize("tier", BELOW)
async def test_a_step_past_its_deadline_is_killed_in_each_tier(tier: str) -> None:
    caps = {"step_s": 0.5}
    async with Hub(PROBES, isolation=tier, exactly=True, caps=caps) as hub:
        async with hub.session("probe") as env, hub.session("probe") as neighbour:
            await env.reset()
            await neighbour.reset()
            with pytest.raises(envhub.errors.DeadlineExceeded):
                await env.step({"code": "import time\nwhile True: time.sleep(1)"})
            await neighbour.step({"code": "result = 1"})
            await env.reset()


async def test_below_the_minimum_the_hub_refuses_and_names_layer_and_fix() -> None:
    """Only root can be other users, and only with all that takes."""
    if os.geteuid() == 0:
        pytest.skip("root can")
    async with Hub(PROBES, isolation="uid", exactly=True) as hub:
        with pytest.raises(LayerFailed) as caught:
            await hub.open("probe")

    assert caught.value.layer == "user of its own"
    assert "CAP_SETUID" in caught.value.hint


@pytest.mark.parametrize("ask", ["vm", "STRICT", ""])
def test_there_is_no_other_tier(ask: str) -> None:
    with pytest.raises(UsageError, match="no isolation"):
        Hub(isolation=ask)


def test_best_is_no_tier_to_take_exactly() -> None:
    with pytest.raises(UsageError, match="`best` is no tier"):
        Hub(isolation="best", exactly=True)


def test_none_is_never_taken_for_the_best_there_is() -> None:
    for minimum in (*TIERS[:-1], "best"):
        assert all(way.grade.tier != "none" for way in Starter(minimum)._ways)
    assert [way.grade for way in Starter("none")._ways] == [Grade("none")]


async def test_agent_code_is_refused_where_nothing_holds_it() -> None:
    async with Hub(ENVS, isolation="none") as hub:
        with pytest.raises(UsageError, match="runs agent code") as caught:
            await hub.open("coding")
        async with hub.session("echo") as env:
            await env.reset()

    assert "allow_unprotected_agent_code" in caught.value.hint


async def test_agent_code_runs_unprotected_where_somebody_said_so() -> None:
    async with Hub(ENVS, isolation="none", allow_unprotected_agent_code=True) as hub:
        async with hub.session("coding") as env:
            await env.reset()
            result = await env.step({"code": "print(6 * 7)"})

    assert result.observation.stdout == "42\n"


# ---------------------------------------------------------------- variables

WITH_VARIABLES = """
name = "asks"
entry = "env:Asks"
variables = ["ASKED", "ALSO_ASKED"]
[deadlines]
start_s = 20
"""
ASKS = """
import os
from envhub import Environment
class Asks(Environment):
    def reset(self, seed=None, episode_id=None): return {"seen": dict(os.environ)}
    def step(self, action): raise RuntimeError(os.environ.get("ASKED"))
    @property
    def state(self): return {}
"""


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [((), {}), (("ASKED", "NEVER_ASKED"), {"ASKED": "a secret"}), (("ALSO_ASKED",), {})],
    ids=["none", "one", "one that is not set"],
)
@pytest.mark.parametrize("isolation", ["strict", "none"])
async def test_a_variable_arrives_if_it_was_named_and_allowed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    isolation: str,
    allowed: tuple[str, ...],
    expected: dict[str, str],
) -> None:
    tmp_path.chmod(0o755)  # as whoever the sandbox runs
    (tmp_path / "env.toml").write_text(WITH_VARIABLES)
    (tmp_path / "env.py").write_text(ASKS)
    for name in ("ASKED", "NEVER_ASKED", "ANOTHER"):
        monkeypatch.setenv(name, "a secret")
    async with Hub(tmp_path, isolation=isolation, variables=allowed) as hub:
        missing = hub.terms.variables_not_allowed()["asks"]
        async with hub.session("asks") as env:
            seen = (await env.reset()).observation.seen

    assert {
        name: seen[name] for name in seen if "ASKED" in name or name == "ANOTHER"
    } == expected
    assert missing == [name for name in ("ASKED", "ALSO_ASKED") if name not in allowed]


async def test_no_error_carries_the_value_of_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the message nor the traceback, of a step or of an import."""
    tmp_path.chmod(0o755)
    (tmp_path / "env.toml").write_text(WITH_VARIABLES)
    (tmp_path / "env.py").write_text(ASKS)
    monkeypatch.setenv("ASKED", "a secret")
    async with Hub(tmp_path, variables=["ASKED"]) as hub, hub.session("asks") as env:
        await env.reset()
        with pytest.raises(EnvironmentFailed, match=r"^\*\*\*$") as in_a_step:
            await env.step({})
    (tmp_path / "env.py").write_text("import os\nraise ValueError(os.environ['ASKED'])")
    async with Hub(tmp_path, variables=["ASKED"]) as hub:
        with pytest.raises(WorkerStartFailed, match=r"\*\*\*") as at_import:
            await hub.open("asks")

    for caught in (in_a_step.value, at_import.value):
        assert "a secret" not in f"{caught} {caught.output} {getattr(caught, 'traceback', '')}"
    assert "ValueError" in at_import.value.output
