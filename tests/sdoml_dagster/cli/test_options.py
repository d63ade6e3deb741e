"""The commands' help texts: the listed options and their sections."""

from collections import Counter

from click.testing import CliRunner

from sdoml_dagster.cli.main import commands
from sdoml_dagster.cli.options import OWN_OPTIONS, SECTIONS
from sdoml_dagster.settings.model import Settings


def help_text(*command: str) -> str:
    done = CliRunner().invoke(commands, [*command, "--help"])
    assert done.exit_code == 0, done.output
    return done.output


def test_each_setting_is_in_exactly_one_section() -> None:
    listed = Counter(name for names in SECTIONS.values() for name in names)
    assert listed == Counter(Settings.model_fields.keys() - OWN_OPTIONS)


def test_build_help_lists_the_settings_by_section() -> None:
    text = help_text("build")
    places = [text.index(f"\n{title}:\n") for title in ("Options", *SECTIONS)]
    assert places == sorted(places)
    assert text.index("\nOptions:\n") < text.index("  --fit DAYS") < text.index("\nDataset:\n")
    assert text.index("\nArchive and downloads:\n") < text.index("  --read-timeout")


def test_release_help_lists_only_options_that_a_release_uses() -> None:
    text = help_text("release")
    assert "--encoding" in text
    for option in ("--read-timeout", "--schedule-hour", "--fit", "--resolution"):
        assert option not in text


def test_options_left_out_of_the_help_are_accepted(tmp_path: object) -> None:
    done = CliRunner().invoke(
        commands, ["release", "--store", f"{tmp_path}/none", "--read-timeout", "5"]
    )
    assert done.exit_code == 1
    assert "no dataset at" in done.output
