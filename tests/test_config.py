"""The settings: what the file, the environment and the command line make of them, and what they refuse."""

import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

import config
from config import Auth, Config, ConfigError, Mongodb, Secret

LONG = "a secret that is long enough for HS256"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text("")
    return path


def mistakes(file: Path | None = None, environ: dict[str, str] | None = None, **overrides: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load(file, environ or {}, **overrides)
    return caught.value.mistakes


def flat(settings: Config) -> dict[str, Any]:
    found: dict[str, Any] = {"data": settings.data}
    for section in config.SECTIONS:
        part = getattr(settings, section)
        found |= {f"{section}__{name}": getattr(part, name) for name in asdict(part)}
    return found


# ---- the file


def test_the_file_names_every_setting_with_its_default() -> None:
    """config.yaml is the documentation: the same names and the same values as the code."""
    content = yaml.safe_load(config.DEFAULT_FILE.read_text("utf-8"))
    named = {"data"} | {f"{section}__{name}" for section in config.SECTIONS for name in content[section]}
    assert named == set(config.defaults()) == set(config.SETTINGS)
    assert set(content) == {"data", *config.SECTIONS}
    assert flat(config.load(environ={})) == config.defaults() | {"data": config.DEFAULT_FILE.with_name("data")}


def test_an_empty_file_means_the_defaults(file: Path) -> None:
    """A setting that is left out has its default; the data folder is next to the file."""
    assert flat(config.load(file, {})) == config.defaults() | {"data": file.parent / "data"}


def test_every_setting_in_the_file_has_a_comment() -> None:
    """A host reads config.yaml instead of the code."""
    lines = config.DEFAULT_FILE.read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("  ") and "#" not in line] == []


def test_a_setting_of_the_file_replaces_its_default_only(file: Path) -> None:
    """The rest of its section keeps the defaults."""
    file.write_text("server:\n  port: 9000\nimages:\n  format: avif\n")
    settings = config.load(file, {})
    assert settings.server == config.Server(port=9000)
    assert settings.images == config.Images(format="avif")


def test_sections_without_settings_are_empty(file: Path) -> None:
    """All lines of a section deleted, its heading left."""
    file.write_text("server:\nimages:\n")
    assert config.load(file, {}).server == config.Server()


def test_data_are_relative_to_the_file(file: Path) -> None:
    """Wherever the server is started from."""
    file.write_text("data: ../dreams\n")
    assert config.load(file, {}).data == file.parent.parent / "dreams"
    assert config.load(file, {"DREAMLOG_DATA": "here"}).data == file.parent / "here"
    assert config.load(file, {"DREAMLOG_DATA": "/srv/dreams"}).data == Path("/srv/dreams")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("colour: red", "mine.yaml: colour: there is no such setting"),
        ("server:\n  prot: 1", "mine.yaml: server.prot: there is no such setting"),
        ("sever:\n  port: 1", "mine.yaml: sever.port: there is no such setting"),
        ("server__port: 1", "mine.yaml: server__port: there is no such setting"),
        ("data:\n  folder: x", "mine.yaml: data.folder: there is no such setting"),
        ("7: 1", "mine.yaml: 7: there is no such setting"),
        ("serverr: {}", "mine.yaml: serverr: there is no such setting"),
        ("serverr:", "mine.yaml: serverr: there is no such setting"),
        ("data: {}", "mine.yaml: data: must be text, not a section"),
        ("server: {port: 1, port: 2}", "mine.yaml: server.port: is there more than once"),
        ("server:\n  port: 1\nimages:\nserver:\n  host: a", "mine.yaml: server: is there more than once"),
        ("data: a\n'data': b", "mine.yaml: data: is there more than once"),
        ("server: 8000", "mine.yaml: server: must be a section with settings below it"),
        ("server: [1]", "mine.yaml: server: must be a section with settings below it"),
        ("data: ''", "mine.yaml: data: must be a path"),
        ('data: "a\\0b"', "mine.yaml: data: must be a path"),
        ("data: 5", "mine.yaml: data: must be text, not a whole number"),
        ("data:", "mine.yaml: data: must be text, not empty"),
        ("server:\n  port: high", "mine.yaml: server.port: must be a whole number, not text"),
        ("server:\n  port: 1.5", "mine.yaml: server.port: must be a whole number"),
        ("server:\n  port: true", "mine.yaml: server.port: must be a whole number, not true or false"),
        ("server:\n  port: 65536", "mine.yaml: server.port: must be a whole number <= 65535"),
        ("server:\n  port: -1", "mine.yaml: server.port: must be a whole number >= 0"),
        ("server:\n  host: ''", "mine.yaml: server.host: must be text of length >= 1"),
        ("server:\n  allowed_origins: https://a", "mine.yaml: server.allowed_origins: must be a list, not text"),
        ("websocket:\n  ping_interval: 0", "mine.yaml: websocket.ping_interval: must be a number > 0.0"),
        ("websocket:\n  ping_interval: .nan", "mine.yaml: websocket.ping_interval: must be a number > 0.0"),
        ("server:\n  drain_timeout: .inf", "mine.yaml: server.drain_timeout: must be a number <= 3600.0"),
        ("images:\n  format: gif", "mine.yaml: images.format: must be one of 'jpeg', 'webp', 'avif'"),
        ("images:\n  quality: 101", "mine.yaml: images.quality: must be a whole number <= 100"),
        ("images:\n  keep_originals: 2", "mine.yaml: images.keep_originals: must be true or false, not a whole number"),
        ("storage:\n  backend: tape", "mine.yaml: storage.backend: must be one of 'local', 'oss'"),
        ("mongodb:\n  database: a/b", "mine.yaml: mongodb.database: must be text matching regex"),
        ("mongodb:\n  uri: localhost", "mongodb.uri: must begin with mongodb:// or mongodb+srv://"),
        ("auth:\n  secret: short", "auth.secret: must have at least 32 characters"),
        (
            "auth:\n  secret: 12345678901234567890123456789012",
            "mine.yaml: auth.secret: must be text, not a whole number",
        ),
        ("limits:\n  images: -1", "mine.yaml: limits.images: must be a whole number >= 0"),
    ],
)
def test_a_mistake_in_the_file_is_named(file: Path, text: str, mistake: str) -> None:
    """One line, that says where it is and what is allowed."""
    file.write_text(text)
    [found] = mistakes(file)
    assert found.startswith(mistake)


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\tserver:", "!!python/object:os.system x", "a: 2026-13-45", "\0"])
def test_a_file_that_is_no_yaml_is_named(file: Path, text: str) -> None:
    """The file and the line, where the parser knows it."""
    file.write_text(text)
    [found] = mistakes(file)
    assert found.startswith(f"{file}: this is not YAML")


def test_a_file_that_is_no_text_is_named(file: Path) -> None:
    """Bytes that are no UTF-8."""
    file.write_bytes(b"server:\n  host: \xff\n")
    assert mistakes(file) == [f"{file}: this is not YAML"]


def test_a_file_that_is_a_list_is_named(file: Path) -> None:
    """YAML, but no sections."""
    file.write_text("- server\n")
    assert mistakes(file) == [f"{file}: must have sections with settings below them"]


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """The one that was asked for with --config; never silently the defaults."""
    assert mistakes(tmp_path / "none.yaml") == [f"{tmp_path / 'none.yaml'}: No such file or directory"]
    assert mistakes(tmp_path) == [f"{tmp_path}: Is a directory"]


# ---- the environment


def test_every_setting_can_come_from_the_environment(file: Path) -> None:
    """As DREAMLOG_SECTION__NAME, whatever its kind."""
    texts = {
        "data": "/srv/dreams",
        "server__host": "0.0.0.0",
        "server__port": "9000",
        "server__public_url": "https://dreams.example.org",
        "server__allowed_origins": "https://a.example.org, http://b:81",
        "server__trusted_proxies": "10.0.0.0/8,::1",
        "server__drain_timeout": "1.5",
        "server__metrics_token": "a-token",
        "mongodb__uri": "mongodb://db.example.org",
        "mongodb__database": "nights",
        "storage__backend": "oss",
        "storage__endpoint": "https://oss-cn-hangzhou-internal.aliyuncs.com",
        "storage__cname": "true",
        "storage__region": "cn-hangzhou",
        "storage__bucket": "my-dreams",
        "storage__prefix": "a/b/",
        "storage__credentials": "ecs_role",
        "storage__access_key_id": "an-id",
        "storage__access_key_secret": "a-secret",
        "storage__ecs_role": "dreams",
        "storage__signature": "v1",
        "storage__public_url": "https://img.example.org",
        "storage__addresses": "public",
        "storage__address_life": "3600",
        "storage__storage_class": "IA",
        "storage__encryption": "AES256",
        "storage__connect_timeout": "1",
        "storage__read_timeout": "2",
        "storage__connections": "3",
        "storage__part_size": "204800",
        "images__workers": "3",
        "images__worker_memory": "536870912",
        "images__time_limit": "30",
        "images__format": "webp",
        "images__quality": "90",
        "images__effort": "4",
        "images__max_bytes": "1000",
        "images__max_per_dream": "5",
        "images__max_pixels": "10",
        "images__max_frames": "20",
        "images__keep_originals": "false",
        "auth__secret": LONG,
        "auth__registration": "closed",
        "auth__access_lifetime": "60",
        "auth__refresh_lifetime": "120",
        "websocket__auth_timeout": "1",
        "websocket__max_message": "8192",
        "websocket__ping_interval": "2",
        "websocket__ping_timeout": "3",
        "websocket__slow_timeout": "4",
        "limits__login_failures": "1",
        "limits__registrations": "2",
        "limits__images": "3",
        "limits__connections": "4",
        "limits__messages": "5",
    }
    assert set(texts) == set(config.SETTINGS)
    found = flat(config.load(file, {f"DREAMLOG_{name.upper()}": text for name, text in texts.items()}))
    assert found.pop("server__allowed_origins") == ("https://a.example.org", "http://b:81")
    assert found.pop("server__trusted_proxies") == ("10.0.0.0/8", "::1")
    assert found.pop("auth__secret").value == LONG
    assert found.pop("server__metrics_token").value == "a-token"
    assert found.pop("storage__access_key_id").value == "an-id"
    assert found.pop("storage__access_key_secret").value == "a-secret"
    assert found.pop("mongodb__uri").value == "mongodb://db.example.org"
    assert found.pop("images__keep_originals") is False
    assert found.pop("storage__cname") is True
    shown = {name: str(value).removesuffix(".0") for name, value in found.items()} | {"server__host": "0.0.0.0"}
    assert shown == {name: text for name, text in texts.items() if name in found}


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(file: Path) -> None:
    """Each setting by itself; what the command line leaves out is None."""
    file.write_text("server:\n  port: 1\n  host: file\nimages:\n  workers: 1\n")
    environ = {"DREAMLOG_SERVER__PORT": "2", "DREAMLOG_SERVER__HOST": "environment"}
    settings = config.load(file, environ, server__port=3, server__host=None)
    assert (settings.server.port, settings.server.host, settings.images.workers) == (3, "environment", 1)


def test_a_wrong_value_that_is_overridden_is_none(file: Path) -> None:
    """Only what counts in the end is checked."""
    file.write_text("server:\n  port: none\n")
    assert config.load(file, {"DREAMLOG_SERVER__PORT": "1"}).server.port == 1


def test_other_programs_variables_are_left_alone(file: Path) -> None:
    """Only what begins with DREAMLOG_ is ours."""
    assert config.load(file, {"PORT": "1", "dreamlog_x": "1", "XDREAMLOG_SERVER__PORT": "1"}).server.port == 8000


@pytest.mark.parametrize(
    ("variable", "text", "mistake"),
    [
        ("DREAMLOG_SERVER__PROT", "1", "DREAMLOG_SERVER__PROT: there is no such setting"),
        ("DREAMLOG_SERVER_PORT", "1", "DREAMLOG_SERVER_PORT: there is no such setting"),
        ("DREAMLOG_", "1", "DREAMLOG_: there is no such setting"),
        ("DREAMLOG_SERVER__PORT", "", "DREAMLOG_SERVER__PORT: must be a whole number, not text"),
        ("DREAMLOG_SERVER__DRAIN_TIMEOUT", "nan", "DREAMLOG_SERVER__DRAIN_TIMEOUT: must be a number >= 0.0"),
        (
            "DREAMLOG_IMAGES__KEEP_ORIGINALS",
            "maybe",
            "DREAMLOG_IMAGES__KEEP_ORIGINALS: must be true or false, not text",
        ),
        ("DREAMLOG_DATA", "", "DREAMLOG_DATA: must be a path"),
    ],
)
def test_a_mistake_in_the_environment_is_named(file: Path, variable: str, text: str, mistake: str) -> None:
    """By the variable's own name."""
    assert mistakes(file, {variable: text}) == [mistake]


@pytest.mark.parametrize(("text", "value"), [("", ()), (" , ", ()), ("https://a", ("https://a",))])
def test_lists_are_split_at_commas(file: Path, text: str, value: tuple[str, ...]) -> None:
    """Spaces around a part and empty parts don't count."""
    assert config.load(file, {"DREAMLOG_SERVER__ALLOWED_ORIGINS": text}).server.allowed_origins == value


def test_any_setting_can_come_from_a_file_of_its_own(file: Path, tmp_path: Path) -> None:
    """_FILE behind the name; the line break at the end, which editors add, is no part of it."""
    (tmp_path / "secret").write_text(LONG + "\n")
    (tmp_path / "port").write_text("9000\n")
    environ = {"DREAMLOG_AUTH__SECRET_FILE": f"{tmp_path}/secret", "DREAMLOG_SERVER__PORT_FILE": f"{tmp_path}/port"}
    settings = config.load(file, environ)
    assert settings.auth.secret.value == LONG
    assert settings.server.port == 9000


def test_a_value_in_the_file_may_be_taken_from_the_environment(file: Path) -> None:
    """`${NAME}` is the whole value; one that is not there is a mistake, and other text with a dollar is itself."""
    file.write_text("auth:\n  secret: ${DREAM_SECRET}\nserver:\n  port: ${PORT}\n  host: $HOST\n")
    settings = config.load(file, {"DREAM_SECRET": LONG, "PORT": "81"})
    assert (settings.auth.secret.value, settings.server.port, settings.server.host) == (LONG, 81, "$HOST")
    assert "mine.yaml: auth.secret: there is no variable DREAM_SECRET in the environment" in mistakes(file, {})


def test_a_setting_file_that_cannot_be_read_is_named(file: Path, tmp_path: Path) -> None:
    """By its variable only: who forgets what _FILE means puts the secret itself there."""
    (tmp_path / "bytes").write_bytes(b"\xff")
    environ = {
        "DREAMLOG_AUTH__SECRET_FILE": LONG,
        "DREAMLOG_MONGODB__URI_FILE": str(tmp_path),
        "DREAMLOG_SERVER__PORT_FILE": f"{tmp_path}/bytes",
        "DREAMLOG_SERVER__HOST_FILE": "a\0b",
    }
    assert mistakes(file, environ) == [
        "DREAMLOG_AUTH__SECRET_FILE: its file cannot be read: No such file or directory",
        "DREAMLOG_MONGODB__URI_FILE: its file cannot be read: Is a directory",
        "DREAMLOG_SERVER__PORT_FILE: its file cannot be read: it is not UTF-8 text",
        "DREAMLOG_SERVER__HOST_FILE: its file cannot be read: it is not UTF-8 text",
    ]


def test_a_value_and_a_file_for_one_setting_are_a_mistake(file: Path, tmp_path: Path) -> None:
    """Which of them wins would be chance."""
    (tmp_path / "port").write_text("2")
    environ = {"DREAMLOG_SERVER__PORT": "1", "DREAMLOG_SERVER__PORT_FILE": f"{tmp_path}/port"}
    assert mistakes(file, environ) == ["DREAMLOG_SERVER__PORT_FILE: DREAMLOG_SERVER__PORT sets the same setting"]


# ---- the command line


def test_a_data_folder_of_the_command_line_is_relative_to_where_one_is(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every path that one types."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert config.load(file, {}, data="dreams").data == tmp_path / "here" / "dreams"
    assert config.load(file, {}, data=Path("dreams")).data == tmp_path / "here" / "dreams"


def test_a_mistake_of_the_command_line_is_named(file: Path) -> None:
    """By its option."""
    assert mistakes(file, server__port=70_000, server__host="", server__colour="red") == [
        "--port: must be a whole number <= 65535",
        "--host: must be text of length >= 1",
        "--colour: there is no such setting",
    ]


# ---- all together


def test_all_mistakes_are_named_at_once(file: Path) -> None:
    """From the file, the environment and between settings of one section, a line each."""
    file.write_text("server:\n  port: x\n  colour: red\nimages:\n  format: gif\nauth:\n  secret: short\n")
    environ = {
        "DREAMLOG_NOPE": "1",
        "DREAMLOG_SERVER__ALLOWED_ORIGINS": "https://a/,ftp://b",
        "DREAMLOG_SERVER__TRUSTED_PROXIES": "somewhere,10.0.0.0/40",
        "DREAMLOG_SERVER__PUBLIC_URL": "dreams.example.org",
        "DREAMLOG_MONGODB__URI": "postgres://",
    }
    with pytest.raises(ConfigError) as caught:
        config.load(file, environ)
    assert caught.value.mistakes == [
        "mine.yaml: server.port: must be a whole number, not text",
        "mine.yaml: server.colour: there is no such setting",
        "mine.yaml: images.format: must be one of 'jpeg', 'webp', 'avif'",
        "DREAMLOG_NOPE: there is no such setting",
        "server.public_url: 'dreams.example.org' is not of the form https://host or https://host:port",
        "server.allowed_origins: 'https://a/' is not of the form https://host or https://host:port",
        "server.allowed_origins: 'ftp://b' is not of the form https://host or https://host:port",
        "server.trusted_proxies: 'somewhere' does not appear to be an IPv4 or IPv6 network",
        "server.trusted_proxies: '10.0.0.0/40' does not appear to be an IPv4 or IPv6 network",
        "mongodb.uri: must begin with mongodb:// or mongodb+srv://",
        "auth.secret: must have at least 32 characters",
    ]
    assert str(caught.value).splitlines() == caught.value.mistakes


@pytest.mark.parametrize(
    "url", ["https://a", "http://localhost:3000", "https://梦.example.org", "http://[::1]:8000", "http://10.0.0.1"]
)
def test_an_origin_is_taken(url: str) -> None:
    """Scheme, host, perhaps a port."""
    assert config.Server(allowed_origins=(url,), public_url=url).public_url == url


@pytest.mark.parametrize(
    "url",
    [
        *("*", "null", "a", "//a", "https://", "https://:80", "ftp://a", "https://a/", "https://a/b", "https://a?b"),
        *("https://a#b", "https://u:p@a", "https://a:x", "https://a:65536", "https://a:", "https://[::1", " https://a"),
        *("https://a b", "https://a\n", "https://a,https://b", "https://a\\b"),
    ],
)
def test_what_is_no_origin_is_refused(url: str) -> None:
    """A path, a query or a user would never equal what browsers send."""
    with pytest.raises(ConfigError, match="allowed_origins"):
        config.Server(allowed_origins=(url,))


# ---- OSS

OSS: dict[str, Any] = {
    "storage__backend": "oss",
    "storage__endpoint": "https://oss-cn-hangzhou.aliyuncs.com",
    "storage__region": "cn-hangzhou",
    "storage__bucket": "my-dreams",
    "storage__access_key_id": "an-id",
    "storage__access_key_secret": "a-secret",
}


def test_oss_needs_its_settings(file: Path) -> None:
    """Whatever is missing is named at once; on disk none of it is asked for."""
    assert mistakes(file, storage__backend="oss") == [
        "storage.endpoint: must be set for OSS",
        "storage.bucket: must be set for OSS",
        "storage.region: must be set for OSS",
        "storage.access_key_id: must be set for OSS",
        "storage.access_key_secret: must be set for OSS",
    ]
    assert mistakes(file, **OSS | {"storage__credentials": "ecs_role"}) == ["storage.ecs_role: must be set for OSS"]
    settings = config.load(file, {}, **OSS).storage
    assert settings.has_oss
    assert config.load(file, {}, **OSS | {"storage__backend": "local"}).storage.has_oss, "to read what is there"
    assert not config.load(file, {}).storage.has_oss
    assert config.load(file, {}, **OSS | {"storage__region": "", "storage__signature": "v1"}).storage.signature == "v1"


@pytest.mark.parametrize(
    ("name", "value", "mistake"),
    [
        ("endpoint", "oss-cn-hangzhou.aliyuncs.com", "is not of the form https://host"),
        ("endpoint", "https://oss-cn-hangzhou-internal.aliyuncs.com", "storage.public_url: must be set"),
        ("public_url", "https://img.example.org/", "is not of the form https://host"),
        ("bucket", "My_Dreams", "matching regex"),
        ("prefix", "dreams", "matching regex"),
        ("prefix", "/dreams/", "matching regex"),
        ("address_life", 604_801, "<= 604800"),
        ("part_size", 100_000, ">= 102400"),
        ("encryption", "rot13", "must be one of '', 'AES256', 'KMS'"),
    ],
)
def test_what_oss_would_not_take_is_refused(file: Path, name: str, value: object, mistake: str) -> None:
    """Before the first request."""
    assert mistake in mistakes(file, **OSS | {f"storage__{name}": value})[0]


def test_keys_are_shown_as_stars(file: Path) -> None:
    """Of OSS, like the other secrets."""
    shown = repr(config.load(file, {}, **OSS))
    assert "an-id" not in shown
    assert "a-secret" not in shown


# ---- secrets


def test_secrets_are_shown_as_stars(file: Path) -> None:
    """In every way that a value gets into a log."""
    uri = "mongodb://ada:lovelace@db.example.org"
    settings = config.load(file, {"DREAMLOG_AUTH__SECRET": LONG, "DREAMLOG_MONGODB__URI": uri})
    for shown in (repr(settings), str(settings), f"{settings.auth}", f"{settings.auth.secret}", str(asdict(settings))):
        assert "***" in shown
        assert LONG not in shown
        assert "lovelace" not in shown


def test_an_absent_secret_is_shown_as_absent() -> None:
    """One sees whether it is set."""
    assert repr(Auth().secret) == "''"
    assert not Mongodb().uri
    assert Secret("x")


def test_secrets_are_equal_by_value() -> None:
    """Settings with equal secrets are equal settings."""
    assert Auth(secret=Secret(LONG)) == Auth(secret=Secret(LONG))
    assert Auth(secret=Secret(LONG)) != Auth(secret=Secret(LONG + "x"))
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


@pytest.mark.parametrize(
    "text",
    [
        "auth:\n  secret: [moonlight",
        "auth:\n  secret: *moonlight",
        "auth:\n  secret: !moonlight x",
        "auth:\n  secret: 'moonlight",
        "auth: {secret: moonlight: x}",
        "auth:\n  secret: moonlight",
        "auth: moonlight",
        "mongodb:\n  uri: moonlight",
        "auth:\n  secret: [moonlight]",
    ],
)
def test_a_mistake_next_to_a_secret_does_not_show_it(file: Path, text: str) -> None:
    """Neither the message nor its traceback: parsers like to quote the line."""
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(file, {})
    assert "moonlight" not in "".join(traceback.format_exception(caught.value))
