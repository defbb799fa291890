"""The page of settings reports every one of them as the program knows it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from recorder.config import SETTINGS, Setting, read_settings

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "settings.md").read_text(
    encoding="utf-8"
)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_setting_stands_in_the_page_with_its_three_names_and_default(setting: Setting) -> None:
    default = f"`{setting.default}`" if setting.default else "–"
    names = f"| `{setting.name}` | `{setting.flag}` | `{setting.variable}` |"
    assert f"{names} {default} | {setting.help} |" in PAGE.splitlines()


def test_the_page_lists_no_setting_that_does_not_exist() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(rows) == len(SETTINGS)


def test_the_file_in_the_page_is_one_that_can_be_used(tmp_path: Path) -> None:
    example = PAGE.split("```toml\n")[1].split("```")[0]
    file = tmp_path / "recorder.toml"
    file.write_text(example, encoding="utf-8")
    settings = read_settings({}, file=file, credentials=False)
    assert [account.name for account in settings.accounts] == list(
        tomllib.loads(example)["accounts"]
    )
