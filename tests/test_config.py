"""Settings: three spellings, one error for all that is wrong, and secrets that never show."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorder.config import SETTINGS, Secret, environment_for_others, read_settings
from recorder.errors import ConfigurationError

NO_FILE = Path("/dev/null")


def test_without_anything_the_defaults_stand() -> None:
    settings = read_settings({}, file=NO_FILE)
    assert settings.database_url == "sqlite:///recorder.db"
    assert settings.ws_url == "wss://api.valr.com"
    assert settings.rest_url == "https://api.valr.com"
    assert [account.name for account in settings.accounts] == ["main"]
    assert settings.accounts[0].trading is False


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "recorder.toml"
    file.write_text("queue_frames = 5\nmax_frame_bytes = 5000\nlease_ttl_s = 5\n")
    environment = {"RECORDER_MAX_FRAME_BYTES": "6000", "RECORDER_LEASE_TTL_S": "6"}
    settings = read_settings(environment, {"lease_ttl_s": "7"}, file=file)
    assert (settings.queue_frames, settings.max_frame_bytes, settings.lease_ttl_s) == (5, 6000, 7)


def test_everything_that_is_wrong_is_named_at_once() -> None:
    environment = {
        "RECORDER_TRADING": "maybe",
        "RECORDER_WS_URL": "http://example.com",
        "RECORDER_QUEUE_FRAMES": "-1",
        "RECORDER_AUTH": "query",
    }
    with pytest.raises(ConfigurationError) as raised:
        read_settings(environment, file=NO_FILE)
    for variable in environment:
        assert variable in str(raised.value)


def test_an_unknown_key_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "recorder.toml"
    file.write_text('databse_url = "sqlite:///x.db"\n')
    with pytest.raises(ConfigurationError, match="databse_url"):
        read_settings({}, file=file)


def test_the_rest_address_stands_beside_the_websocket_unless_it_is_given() -> None:
    beside = read_settings({"RECORDER_WS_URL": "ws://127.0.0.1:1234"}, file=NO_FILE)
    assert beside.rest_url == "http://127.0.0.1:1234"
    differences = {"RECORDER_WS_URL": "ws://a.example", "RECORDER_REST_URL": "https://b.example/"}
    assert read_settings(differences, file=NO_FILE).rest_url == "https://b.example"


def test_credentials_come_from_variables_or_from_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from a file\n")
    environment = {
        "VALR_API_KEY": "from a variable",
        "VALR_API_SECRET_FILE": str(tmp_path / "secret"),
    }
    account = read_settings(environment, file=NO_FILE).accounts[0]
    assert account.api_key.reveal() == "from a variable"
    assert account.api_secret.reveal() == "from a file"


def test_a_missing_secret_file_is_named_and_only_where_it_is_needed() -> None:
    environment = {"VALR_API_SECRET_FILE": "/nowhere/secret"}
    with pytest.raises(ConfigurationError, match="VALR_API_SECRET from /nowhere/secret"):
        read_settings(environment, file=NO_FILE)
    assert not read_settings(environment, file=NO_FILE, credentials=False).accounts[0].api_secret


def test_a_secret_file_with_nothing_in_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("\n")
    with pytest.raises(ConfigurationError, match=f"VALR_API_KEY from {file}: it is empty"):
        read_settings({"VALR_API_KEY_FILE": str(file)}, file=NO_FILE)


def test_a_wrong_value_in_an_accounts_table_is_named_with_its_key(tmp_path: Path) -> None:
    file = tmp_path / "recorder.toml"
    file.write_text("[accounts.main]\ntrading = 5\n")
    with pytest.raises(ConfigurationError, match=r"\[accounts.main\]: trading is 5: use 1 or 0"):
        read_settings({}, file=file)


def test_no_setting_shows_a_secret(tmp_path: Path) -> None:
    environment = {"VALR_API_KEY": "AKEY-1234", "VALR_API_SECRET": "ASECRET-1234"}
    settings = read_settings(environment, file=NO_FILE)
    shown = f"{settings!r} {settings} {settings.accounts[0].api_secret}"
    assert "1234" not in shown
    assert str(Secret("x")) == "***"


def test_several_accounts_each_have_their_own_settings(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"key of {name}")
    file = tmp_path / "recorder.toml"
    file.write_text(
        f'[accounts.a]\napi_key_file = "{tmp_path}/a"\ntrading = true\n'
        f'[accounts.b]\napi_key_file = "{tmp_path}/b"\n'
    )
    settings = read_settings({}, file=file)
    assert [(each.name, each.api_key.reveal(), each.trading) for each in settings.accounts] == [
        ("a", "key of a", True),
        ("b", "key of b", False),
    ]
    named = read_settings({}, {"account": "b"}, file=file)
    assert [each.name for each in named.accounts] == ["b"]
    with pytest.raises(ConfigurationError, match=r"no \[accounts.c\]"):
        read_settings({"RECORDER_ACCOUNT": "c"}, file=file)


def test_a_server_that_does_not_exist_yet_is_not_promised() -> None:
    with pytest.raises(ConfigurationError, match="RECORDER_HTTP"):
        read_settings({"RECORDER_HTTP": "127.0.0.1:8000"}, file=NO_FILE)


def test_an_address_with_a_password_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="out of the address"):
        read_settings({"RECORDER_WS_URL": "wss://user:pw@example.com"}, file=NO_FILE)


def test_every_setting_has_a_flag_and_a_variable_of_its_own() -> None:
    assert len({setting.flag for setting in SETTINGS}) == len(SETTINGS)
    assert len({setting.variable for setting in SETTINGS}) == len(SETTINGS)


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("[account.main]\ntrading = true\n", r"\[accounts.main\]"),
        ("database_url = ['a', 'b']\n", "database_url in the file is a list"),
        ("queue_frames = 2026-01-31\n", "queue_frames in the file is a date or a time: use one"),
        ("[accounts.main]\ntrading = [1]\n", "use one value"),
    ],
)
def test_a_table_or_a_list_where_one_value_belongs_is_refused(
    tmp_path: Path, content: str, answer: str
) -> None:
    file = tmp_path / "recorder.toml"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=answer):
        read_settings({}, file=file)


@pytest.mark.parametrize("key", ["PART1\nPART2", "PÄRT", "PART\x7f"])
def test_a_key_that_can_be_none_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ConfigurationError, match="VALR_API_KEY") as caught:
        read_settings({"VALR_API_KEY": key})
    assert "PART" not in str(caught.value)
    assert "PÄRT" not in str(caught.value)


@pytest.mark.parametrize("url", ["ws://127.0.0.1:99999", "ws://host:port/"])
def test_a_port_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="use a port"):
        read_settings({"RECORDER_WS_URL": url})


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="leave user and password out") as caught:
        read_settings({"RECORDER_WS_URL": "wss://me:hunter2@example.com"})
    assert "hunter2" not in str(caught.value)


def test_a_hook_is_split_into_words_and_given_to_no_shell() -> None:
    reported = {"RECORDER_CHECKPOINT_HOOK": "keep-head --to 'a place' '$(id)'"}
    settings = read_settings(reported, file=NO_FILE)
    assert settings.checkpoint_hook == ("keep-head", "--to", "a place", "$(id)")
    assert read_settings({}, file=NO_FILE).checkpoint_hook == ()
    with pytest.raises(ConfigurationError, match="RECORDER_CHECKPOINT_HOOK"):
        read_settings({"RECORDER_CHECKPOINT_HOOK": "keep 'head"}, file=NO_FILE)


def test_no_other_program_finds_our_secrets_in_its_environment() -> None:
    environment = {
        "PATH": "/bin",
        "VALR_API_KEY": "k",
        "VALR_API_SECRET": "s",
        "PGPASSWORD": "p",
        "RECORDER_DATABASE_URL": "postgresql://u:p@h/d",
    }
    assert environment_for_others(environment) == {"PATH": "/bin"}
