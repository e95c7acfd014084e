from __future__ import annotations

from pathlib import Path

import pytest

from envhub.errors import ManifestError, UnknownEnvironment
from envhub.hub.environments import manifest
from envhub.hub.environments.catalog import Catalog, search_path

MINIMAL = 'name = "x"\nentry = "env:X"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "is not TOML"),
        ('name = "x"', "missing required field `entry`"),
        ('name = "X y"\nentry = "env:X"', "got `X y` - at `\\$.name`"),
        ('name = "x"\nentry = "env"', "expected `module:Class`"),
        (MINIMAL + "sede = 1", "unknown field `sede`"),
        (MINIMAL + 'reset = "never"', "Invalid enum value 'never' - at `\\$.reset`"),
        (MINIMAL + "[limits]\nmemory = 1", "unknown key `memory`"),
        (MINIMAL + "[limits]\nprocesses = 0", "1 or more, got 0 - at `\\$.limits.processes`"),
        (MINIMAL + "[limits]\nsession_memory_bytes = -1", "expected 0 or more"),
        (MINIMAL + "[limits]\nframe_bytes = 99", "expected 4096 or more, got 99"),
        (MINIMAL + "[limits]\nframe_bytes = 67108865", "expected 67108864 or less"),
        (MINIMAL + "[limits]\nniceness = 20", "19 or less, got 20 - at `\\$.limits.niceness`"),
        (MINIMAL + "[runner.limits]\noutput_bytes = 9999", "unknown key `output_bytes`"),
        (MINIMAL + "[deadlines]\nidle_s = -1", "`float` >= 0.0 - at `\\$.deadlines.idle_s`"),
        (MINIMAL + "[limits]\nprocesses = 1.5", "got `float` - at `\\$.limits.processes`"),
        (MINIMAL + "[runner.limits]\nram = 1", "unknown key `ram` - at `\\$.runner.limits`"),
        (MINIMAL + "[deadlines]\nstep_s = 0", "step_s"),
        (MINIMAL + 'folder = "/"', "unknown key `folder`"),
    ],
)
def test_a_manifest_that_is_not_valid_names_file_and_key(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "env.toml").write_text(text)

    with pytest.raises(ManifestError, match=message) as caught:
        manifest.read(tmp_path)
    assert str(tmp_path / "env.toml") in str(caught.value)


def test_the_smallest_manifest_is_two_lines(tmp_path: Path) -> None:
    (tmp_path / "env.toml").write_text(MINIMAL)
    read = manifest.read(tmp_path)

    assert (read.name, read.entry, read.folder) == ("x", "env:X", str(tmp_path))
    assert read.deadlines.step_s == 60
    assert (read.deadlines.episode_s, read.deadlines.idle_s) == (0, 0)


def test_a_session_may_use_four_times_the_memory_of_a_process(tmp_path: Path) -> None:
    (tmp_path / "env.toml").write_text(MINIMAL + "[limits]\nmemory_bytes = 1000000\n")

    assert manifest.read(tmp_path).limits.session_memory_bytes == 4_000_000


def test_the_first_match_on_the_path_wins_and_a_broken_one_does_not_hide_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, name in (("one", "a"), ("two", "a"), ("two", "b")):
        folder = tmp_path / place / name
        folder.mkdir(parents=True)
        (folder / "env.toml").write_text(f'name = "{name}"\nentry = "env:X"\n')
    (tmp_path / "one" / "bad").mkdir()
    (tmp_path / "one" / "bad" / "env.toml").write_text("name = 1")
    monkeypatch.setenv("ENVHUB_PATH", str(tmp_path / "two"))
    monkeypatch.chdir(tmp_path)
    catalog = Catalog(search_path([tmp_path / "one"]))

    assert catalog["a"].folder == str(tmp_path / "one" / "a")
    assert "b" in catalog
    assert list(catalog.broken) == ["bad"]
    with pytest.raises(ManifestError):
        catalog["bad"]


def test_an_unknown_name_is_told_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "env.toml").write_text('name = "coding"\nentry = "env:X"\n')

    with pytest.raises(UnknownEnvironment, match="no environment `codign`") as caught:
        Catalog([tmp_path])["codign"]
    assert caught.value.hint == "did you mean `coding`?"


def test_the_default_is_named_or_the_alphabetically_first(tmp_path: Path) -> None:
    for name in ("zeta", "alpha"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "env.toml").write_text(f'name = "{name}"\nentry = "env:X"\n')
    catalog = Catalog([tmp_path])

    assert catalog.default() == "alpha"
    assert catalog.default("zeta") == "zeta"
    with pytest.raises(UnknownEnvironment):
        catalog.default("beta")


def test_a_folder_that_was_named_and_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownEnvironment, match="no folder"):
        search_path([tmp_path / "nowhere"])
