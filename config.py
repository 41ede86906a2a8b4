"""Settings: turns config.yaml, the environment and the command line into frozen dataclasses, one for each section.

It must not know what uses the settings.
"""

import ipaddress
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import yaml
from msgspec import Meta

PREFIX = "DREAMLOG_"
DEFAULT_FILE = Path(__file__).with_name("config.yaml")
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
ORIGIN = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[^\s/?#@:\[\]\\,]+)(:(?P<port>[0-9]{1,5}))?")


# The types in msgspec's messages, as a person calls them.
TYPES = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false", "NoneType": "empty"}
TYPES |= {"array": "a list", "list": "a list", "object": "a section", "dict": "a section"}


class Secret:
    """A value that logs and tracebacks show as stars. An empty one is false."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "'***'" if self.value else "''"

    def __bool__(self) -> bool:
        return bool(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


NO_SECRET = Secret("")


class ConfigError(Exception):
    """The settings have mistakes; `mistakes` has a line for each of them."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]
Limit = Annotated[int, Meta(ge=0)]
NonEmpty = Annotated[str, Meta(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class Server:
    host: NonEmpty = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    public_url: str = ""
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    drain_timeout: Annotated[float, Meta(ge=0, le=3600)] = 20.0
    metrics_token: Secret = NO_SECRET

    def __post_init__(self) -> None:
        urls = [("public_url", self.public_url)] if self.public_url else []
        urls += [("allowed_origins", origin) for origin in self.allowed_origins]
        mistakes = [
            f"{name}: {url!r} is not of the form https://host or https://host:port"
            for name, url in urls
            if not _is_origin(url)
        ]
        for network in self.trusted_proxies:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError as error:
                mistakes.append(f"trusted_proxies: {error}")
        if mistakes:
            raise ConfigError(mistakes)


@dataclass(frozen=True, kw_only=True)
class Mongodb:
    uri: Secret = NO_SECRET
    database: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,63}$")] = "dreamlog"  # what MongoDB allows

    def __post_init__(self) -> None:
        if self.uri and not self.uri.value.startswith(("mongodb://", "mongodb+srv://")):
            raise ConfigError(["uri: must begin with mongodb:// or mongodb+srv://"])


@dataclass(frozen=True, kw_only=True)
class Storage:
    backend: Literal["local", "oss"] = "local"
    endpoint: str = ""
    cname: bool = False
    region: Annotated[str, Meta(pattern="^[a-z0-9-]*$")] = ""
    bucket: Annotated[str, Meta(pattern="^([a-z0-9][a-z0-9-]{1,61}[a-z0-9])?$")] = ""  # what OSS allows
    prefix: Annotated[str, Meta(pattern="^([A-Za-z0-9_.-]+/)*$")] = "dreamlog/"
    credentials: Literal["settings", "environment", "ecs_role"] = "settings"
    access_key_id: Secret = NO_SECRET
    access_key_secret: Secret = NO_SECRET
    ecs_role: str = ""
    signature: Literal["v4", "v1"] = "v4"
    public_url: str = ""
    addresses: Literal["signed", "public"] = "signed"
    address_life: Annotated[float, Meta(ge=2, le=604_800)] = 172_800.0  # V4 allows a week
    storage_class: Literal["Standard", "IA"] = "Standard"
    encryption: Literal["", "AES256", "KMS"] = ""
    connect_timeout: Seconds = 5.0
    read_timeout: Seconds = 20.0
    connections: Annotated[int, Meta(ge=1, le=256)] = 32
    part_size: Annotated[int, Meta(ge=102_400, le=1_073_741_824)] = 4_194_304  # OSS accepts no part below 100 KiB

    @property
    def has_oss(self) -> bool:
        """Is OSS set up, for new images or only to read and move older ones?"""
        return self.backend == "oss" or bool(self.bucket)

    def __post_init__(self) -> None:
        mistakes = [
            f"{name}: {url!r} is not of the form https://host or https://host:port"
            for name, url in (("endpoint", self.endpoint), ("public_url", self.public_url))
            if url and not _is_origin(url)
        ]
        if self.has_oss:
            needed = ["endpoint", "bucket"]
            needed += ["region"] if self.signature == "v4" else []
            needed += ["access_key_id", "access_key_secret"] if self.credentials == "settings" else []
            needed += ["ecs_role"] if self.credentials == "ecs_role" else []
            mistakes += [f"{name}: must be set for OSS" for name in needed if not getattr(self, name)]
            if "-internal." in self.endpoint and not self.public_url:
                mistakes.append("public_url: must be set, because browsers cannot reach an internal endpoint")
        if mistakes:
            raise ConfigError(mistakes)


@dataclass(frozen=True, kw_only=True)
class Images:
    workers: Annotated[int, Meta(ge=0, le=256)] = 0
    worker_memory: Annotated[int, Meta(ge=268_435_456)] = 1_610_612_736
    time_limit: Seconds = 60.0
    format: Literal["jpeg", "webp", "avif"] = "jpeg"
    quality: Annotated[int, Meta(ge=0, le=100)] = 0
    effort: Annotated[int, Meta(ge=0, le=6)] = 0
    max_bytes: Annotated[int, Meta(ge=1)] = 50_000_000
    max_per_dream: Annotated[int, Meta(ge=1, le=500)] = 50
    max_pixels: Annotated[int, Meta(ge=1)] = 100_000_000
    max_frames: Annotated[int, Meta(ge=1)] = 600
    keep_originals: bool = True


@dataclass(frozen=True, kw_only=True)
class Auth:
    secret: Secret = NO_SECRET
    registration: Literal["open", "closed"] = "open"
    access_lifetime: Seconds = 900.0
    refresh_lifetime: Seconds = 2_592_000.0

    def __post_init__(self) -> None:
        # RFC 7518, 3.2: an HS256 key has at least as many bits as the hash.
        if self.secret and len(self.secret.value.encode()) < 32:
            raise ConfigError(["secret: must have at least 32 characters"])


@dataclass(frozen=True, kw_only=True)
class WebSocket:
    auth_timeout: Seconds = 10.0
    max_message: Annotated[int, Meta(ge=256, le=131_072)] = 4096
    ping_interval: Seconds = 25.0
    ping_timeout: Seconds = 20.0
    slow_timeout: Seconds = 10.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    login_failures: Limit = 10
    registrations: Limit = 500
    images: Limit = 5000
    connections: Limit = 10_000
    messages: Limit = 0


@dataclass(frozen=True, kw_only=True)
class Config:
    data: Path = Path("data")
    server: Server = field(default_factory=Server)
    mongodb: Mongodb = field(default_factory=Mongodb)
    storage: Storage = field(default_factory=Storage)
    images: Images = field(default_factory=Images)
    auth: Auth = field(default_factory=Auth)
    websocket: WebSocket = field(default_factory=WebSocket)
    limits: Limits = field(default_factory=Limits)


def load(file: Path | None = None, environ: Mapping[str, str] = os.environ, **overrides: Any) -> Config:
    """Read `file` (default: the config.yaml of this folder), then `environ`, then `overrides`; the last value wins.

    `overrides` are named `section__name`; None means not given. Raises `ConfigError` with every mistake found.
    """
    mistakes: list[str] = []
    file = file or DEFAULT_FILE
    values = _from_file(file, environ, mistakes)
    for name, (where, value) in _from_environment(environ, mistakes).items():
        values[name] = (where, value)
    for name, value in overrides.items():
        if value is not None:
            values[name] = (f"--{name.rpartition('__')[2]}", value)

    config = _build(values, mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    base = Path() if overrides.get("data") is not None else file.parent
    return replace(config, data=(base / config.data).resolve())


Values = dict[str, tuple[str, Any]]  # section__name -> (where it was set, value)


def _from_file(file: Path, environ: Mapping[str, str], mistakes: list[str]) -> Values:
    try:
        text = file.read_text("utf-8")
        content = yaml.safe_load(text) or {}
    except OSError as error:
        raise ConfigError([f"{file}: {error.strerror}"]) from error
    except (yaml.YAMLError, ValueError) as error:
        # The parser's message is left out, also as the cause: it quotes the line, which may hold a secret.
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise ConfigError([f"{file}: this is not YAML{where}"]) from None
    if not isinstance(content, dict):
        raise ConfigError([f"{file}: must have sections with settings below them"])
    mistakes.extend(f"{file.name}: {name}: is there more than once" for name in _repeated(text))
    values: Values = {}
    for section, settings in content.items():
        if isinstance(settings, dict) and (settings or section in SECTIONS):
            for name, value in settings.items():
                where = f"{file.name}: {section}.{name}"
                values[f"{section}__{name}"] = (where, _from_variable(where, value, environ, mistakes))
        elif section in SECTIONS and settings is not None:
            mistakes.append(f"{file.name}: {section}: must be a section with settings below it")
        elif section not in SECTIONS and "__" in str(section):
            mistakes.append(f"{file.name}: {section}: there is no such setting")
        elif section not in SECTIONS:
            values[str(section)] = (f"{file.name}: {section}", settings)
    return values


def _repeated(text: str) -> Iterator[str]:
    """The names of sections and settings that a file has twice or more often: YAML would take the last of each."""
    root = yaml.compose(text, yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    for prefix, node in [("", root), *((f"{key.value}.", value) for key, value in pairs)]:
        if isinstance(node, yaml.MappingNode):
            names = Counter(str(key.value) for key, _ in node.value)
            yield from (f"{prefix}{name}" for name, times in names.items() if times > 1)


def _from_variable(where: str, value: Any, environ: Mapping[str, str], mistakes: list[str]) -> Any:
    """The value of the environment variable in `${NAME}`; any other value as it is."""
    match = VARIABLE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    if match[1] not in environ:
        mistakes.append(f"{where}: there is no variable {match[1]} in the environment")
    return environ.get(match[1], "")


def _from_environment(environ: Mapping[str, str], mistakes: list[str]) -> Values:
    values: Values = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name.endswith("_file") and name not in SETTINGS:
            name = name.removesuffix("_file")
            try:
                text = Path(text).read_text("utf-8").strip()
            except (OSError, ValueError) as error:
                # The path is left out: an administrator who misunderstands _FILE puts the secret itself there.
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
                mistakes.append(f"{variable}: its file cannot be read: {reason}")
                continue
        if name in values:
            mistakes.append(f"{variable}: {values[name][0]} sets the same setting")
        is_list = str(SETTINGS.get(name, "")).startswith("tuple")
        value: Any = [part.strip() for part in text.split(",") if part.strip()] if is_list else text
        values[name] = (variable, value)
    return values


def _build(values: Values, mistakes: list[str]) -> Config:
    known: dict[str, Any] = {}
    for name, (where, value) in values.items():
        if name not in SETTINGS:
            mistakes.append(f"{where}: there is no such setting")
            continue
        try:
            # Not strict, because the environment has only text: "8000" is a number there.
            known[name] = msgspec.convert(value, SETTINGS[name], strict=not isinstance(value, str), dec_hook=_decode)
        except msgspec.ValidationError as error:
            mistakes.append(f"{where}: {_reason(error, SETTINGS[name])}")
    sections: dict[str, Any] = {}
    for section, cls in SECTIONS.items():
        mine = {name.partition("__")[2]: v for name, v in known.items() if name.startswith(f"{section}__")}
        try:
            sections[section] = cls(**mine)
        except ConfigError as error:
            mistakes.extend(f"{section}.{mistake}" for mistake in error.mistakes)
    if "data" in known:
        sections["data"] = known["data"]
    return Config() if mistakes else replace(Config(), **sections)


def _reason(error: msgspec.ValidationError, kind: Any) -> str:
    """What the value of this type must be, and perhaps what it is."""
    if get_origin(kind) is Literal:
        return f"must be one of {', '.join(map(repr, get_args(kind)))}"
    text = re.sub("`([A-Za-z]+)`", lambda found: TYPES.get(found[1], found[0]), str(error))
    text = text.replace("Expected", "must be", 1).replace(", got ", ", not ", 1)
    return text.removesuffix(", not a number")


def _decode(kind: type, value: Any) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, str):
        raise msgspec.ValidationError(f"Expected `str`, got `{type(value).__name__}`")
    if kind is Path and (not value or "\0" in value):
        raise msgspec.ValidationError("Expected a path")
    return kind(value)


def _is_origin(url: str) -> bool:
    """Does the URL have a scheme, a host and perhaps a port, but nothing else, as in the header `Origin`?"""
    match = ORIGIN.fullmatch(url)
    return match is not None and int(match["port"] or 0) <= 65535


def _types() -> tuple[dict[str, Any], dict[str, Any]]:
    sections, settings = {}, {}
    for name, kind in get_type_hints(Config, include_extras=True).items():
        if is_dataclass(kind):
            sections[name] = kind
            settings.update({f"{name}__{n}": k for n, k in get_type_hints(kind, include_extras=True).items()})
        else:
            settings[name] = kind
    return sections, settings


SECTIONS, SETTINGS = _types()


def defaults() -> dict[str, Any]:
    """The default of each setting, by `section__name`. A test compares config.yaml with it."""
    found: dict[str, Any] = {}
    for section, cls in SECTIONS.items():
        found.update({f"{section}__{f.name}": f.default for f in fields(cls) if f.default is not MISSING})
    return {"data": Config.data, **found}
