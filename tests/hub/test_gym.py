"""Ids of Gymnasium's as names of environments: what is known of them before any is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from envhub import Grant, Hub
from envhub.cli import granting
from envhub.door import tokens
from envhub.errors import ManifestError, UnknownEnvironment, UsageError
from envhub.hub.environments import gym, manifest, requirements
from envhub.hub.environments.catalog import Catalog
from envhub.hub.workers import views

GOOD = [
    "gym:CartPole-v1",
    "gym:ALE/Pong-v5",
    "gym:my_package:MyEnv-v0",
    "gym:my.package.module:name_space/My-Env_2.0-v12",
    "gym:minigrid:MiniGrid-Empty-5x5-v0",
]
BAD = [
    "gym:", "gym:CartPole", "gym:-v1", "gym:../CartPole-v1", "gym:/CartPole-v1",
    "gym:a/b/CartPole-v1", "gym:a/../CartPole-v1", "gym:./CartPole-v1", "gym:.hidden-v1",
    "gym:CartPole-v1 ", "gym:CartPole-v1\n", " gym:CartPole-v1", "gym:Cart Pole-v1",
    "gym:CartPole-v", "gym:CartPole-v-1", "gym:CartPole-v1/ws", "gym:Cart%2FPole-v1",
    "gym:CartPole-v1/x-v1", "gym:CartPölle-v1", "gym:CartPole-v٣", "gym:a b:CartPole-v1",
    "gym:1a:CartPole-v1", "gym:a..b:CartPole-v1", "gym:--index-url=x:CartPole-v1",
    "gym:x @ file:///tmp:CartPole-v1", "gym:a:b:CartPole-v1", "gym:CartPole-v1\0",
    "gym:" + "a" * 200 + "-v1", "gym:CartPole-v1234567", "GYM:CartPole-v1",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_an_id_is_an_environment_without_a_folder(name: str) -> None:
    found = Catalog([])[name]

    assert (found.name, found.entry, found.format, found.folder) == (name, name, "gym", "")
    assert found.version == name.rpartition("-v")[2]


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_id_is_no_environment(name: str) -> None:
    catalog = Catalog([])

    with pytest.raises(UnknownEnvironment):
        catalog[name]
    assert catalog.names() == []


def test_an_id_without_its_prefix_is_told_with_it() -> None:
    with pytest.raises(UnknownEnvironment) as unknown:
        Catalog([])["CartPole-v1"]

    assert unknown.value.hint == "Gymnasium's is `gym:CartPole-v1`"


def test_a_closed_catalog_knows_the_ids_that_were_named_before_and_no_others() -> None:
    catalog = Catalog([])
    catalog["gym:CartPole-v1"]
    catalog.close()

    assert catalog.names() == ["gym:CartPole-v1"]
    assert catalog["gym:CartPole-v1"].format == "gym"
    with pytest.raises(UnknownEnvironment, match="no environment `gym:Pendulum-v1`") as unknown:
        catalog["gym:Pendulum-v1"]
    assert "Gymnasium" not in unknown.value.hint


@pytest.mark.parametrize(
    ("name", "needed", "entry"),
    [
        ("gym:CartPole-v1", "gymnasium>=", "CartPole-v1"),
        ("gym:ALE/Pong-v5", "gymnasium[atari]>=", "ale_py:ALE/Pong-v5"),
        ("gym:LunarLander-v3", "gymnasium[box2d]>=", "LunarLander-v3"),
        ("gym:HalfCheetah-v5", "gymnasium[mujoco]>=", "HalfCheetah-v5"),
        ("gym:phys2d/CartPole-v1", "gymnasium[jax]>=", "phys2d/CartPole-v1"),
        ("gym:mine:Ant-v0", "gymnasium>=", "mine:Ant-v0"),
        ("gym:mine:ALE/Pong-v5", "gymnasium[atari]>=", "mine:ALE/Pong-v5"),
    ],
)
def test_an_id_says_what_is_installed_for_it(name: str, needed: str, entry: str) -> None:
    lines = requirements.of(Catalog([])[name]).lines

    assert next(line for line in lines if line.startswith("gymnasium")).startswith(needed)
    assert not any(line.startswith("openenv") for line in lines)
    assert gym.entry(name) == entry


def test_what_an_operator_adds_is_installed_and_nothing_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "requirements.txt").write_text("anything")
    monkeypatch.chdir(tmp_path)
    grant = Grant(packages=("minigrid>=3",))
    lines = requirements.of(grant.applied(manifest.of_id("gym:minigrid:X-v0"))).lines

    assert "minigrid>=3" in lines
    assert "anything" not in lines


def test_a_sandbox_shows_an_id_no_folder() -> None:
    of_id = manifest.of_id("gym:CartPole-v1")
    binds = [bind.source for bind in views.worker_view(of_id, {}).binds]

    assert str(Path.cwd()) not in binds
    assert "" not in binds


def test_a_folder_may_be_around_an_id(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("minigrid\n")
    (tmp_path / "env.toml").write_text(
        'name = "grid"\nentry = "gym:minigrid:MiniGrid-Empty-5x5-v0"\n'
        "[gym]\nmax_episode_steps = 7\n[limits]\nprocesses = 3\n"
    )
    found = Catalog([tmp_path])["grid"]

    assert (found.format, found.gym, found.limits.processes) == (
        "gym",
        {"max_episode_steps": 7},
        3,
    )
    assert "minigrid" in requirements.of(found).lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('entry = "env:X"\n[gym]\na = 1', "`\\$.entry` is no id of Gymnasium's"),
        ('entry = "gym:X-v0"\n[gym]\na = 2026-01-01', "not JSON serializable - at `\\$.gym`"),
        ('entry = "gym:X-v0"\n[gym]\na = nan', "at `\\$.gym`"),
        ('entry = "gym:X-v0"\ngym = 3', "Expected `object`, got `int` - at `\\$.gym`"),
        ('entry = "gym:../X-v0"', "expected `module:Class`"),
    ],
)
def test_a_manifest_around_an_id_that_is_not_valid_says_where(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "env.toml").write_text(f'name = "x"\n{text}\n')

    with pytest.raises(ManifestError, match=message):
        manifest.read(tmp_path)


def test_a_grant_names_an_id_whatever_colons_there_are() -> None:
    texts = (
        "gym:CartPole-v1:NAME",
        "gym:ALE/Pong-v5:OTHER",
        "gym:my_package:MyEnv-v0:THIRD",
        "echo:FOURTH",
        "FIFTH",
    )
    package = "gym:my_package:MyEnv-v0:my-package @ file:///x/y.whl"
    grants, to_all = granting.by_name((), texts, (), (package,))

    assert to_all == ("FIFTH",)
    assert {name: grant.variables for name, grant in grants.items()} == {
        "gym:CartPole-v1": ("NAME",),
        "gym:ALE/Pong-v5": ("OTHER",),
        "gym:my_package:MyEnv-v0": ("THIRD",),
        "echo": ("FOURTH",),
    }
    assert grants["gym:my_package:MyEnv-v0"].packages == ("my-package @ file:///x/y.whl",)
    for wrong in ("gym:CartPole-v1", "gym:CartPole-v1:", "gym:CartPole:NAME"):
        with pytest.raises(UsageError, match="expected --with ENV"):
            granting.by_name((), (), (), (wrong,))


def test_a_token_may_be_held_to_an_id(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("a-token-of-this-test-only name=a envs=echo,gym:ALE/Pong-v5\n")
    file.chmod(0o600)
    known = tokens.given(file, queue_s=1)

    assert known is not None
    (holder,) = known.holders
    assert holder.may_open("gym:ALE/Pong-v5")
    assert not holder.may_open("gym:CartPole-v1")


async def test_a_name_that_is_no_id_is_refused_by_a_hub_and_nothing_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVHUB_CACHE", str(tmp_path / "cache"))
    async with Hub() as hub:
        with pytest.raises(UnknownEnvironment, match="no id of Gymnasium's"):
            await hub.open("gym:../../CartPole-v1")

    assert not (tmp_path / "cache").exists()
