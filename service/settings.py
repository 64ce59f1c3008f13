"""What the service is told by its environment, read once."""

import importlib.util
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from aiohttp import web
from limits import RateLimitItem, parse, parse_many

from storage.location import ENGINE_NAMES, EngineChoice, Location

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LogLevel = Literal["debug", "info", "warning", "error"]
EventLoop = Literal["auto", "asyncio", "uvloop"]

LOG_LEVELS = ("debug", "info", "warning", "error")
EVENT_LOOPS = ("auto", "asyncio", "uvloop")
MAX_BODY_BYTES = 1024 * 1024
MAX_WORKERS = 256
MAX_RATE = 10**15 - 1
"""The largest number that a structured field of HTTP holds."""
MIN_SECRET_CHARACTERS = 16
SECRET_FILES = {
    "MONGODB_URI": "MONGODB_URI_FILE",
    "POLLS_SECRET": "POLLS_SECRET_FILE",
    "POLLS_ADMIN_TOKEN": "POLLS_ADMIN_TOKEN_FILE",
}
"""Each secret may also be the content of a file, whose path is in the second variable."""
ORIGIN = r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"
BAD_TOKEN_RATE = parse("60/minute")
EMBEDDED_URI = "POLLS_EMBEDDED_URI"
"""The variable in which a parent tells its workers where its embedded server is; not a setting."""


class InvalidSetting(Exception):
    """A variable holds what it cannot hold; the text is one sentence that names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings; defaults are those of the README's table. Secrets do not show in its repr."""

    host: str = "127.0.0.1"
    port: int = 8080
    mongodb_uri: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    data_dir: Path = Path("data")
    engine: str | None = None
    mongod: Path | None = None
    admin_token: str | None = field(default=None, repr=False)
    max_body_bytes: int = MAX_BODY_BYTES
    public_url: str | None = None
    trusted_proxies: tuple[Network, ...] = ()
    log_level: LogLevel = "info"
    token_rate: RateLimitItem | None = None
    bad_token_rate: RateLimitItem | None = BAD_TOKEN_RATE
    cors_origins: frozenset[str] = frozenset()
    traces: bool = False
    event_loop: EventLoop = "auto"
    workers: int = 1
    max_connections: int = 10_000
    client_seconds: float = 30
    keepalive_seconds: float = 75
    drain_seconds: float = 0
    metrics_dir: Path | None = None

    @property
    def location(self) -> Location:
        return Location(
            uri=self.mongodb_uri,
            data_dir=self.data_dir,
            secret=self.secret,
            engine=EngineChoice(self.engine, self.mongod),
        )


SETTINGS = web.AppKey("settings", Settings)


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Reads ``environment``, that of the process unless given.

    An empty variable counts as unset. Files of secrets are read here, so a process sees a new
    content when it starts again. Raises ``InvalidSetting``.
    """
    variables = os.environ if environment is None else environment
    given = {name: value for name, value in variables.items() if value}
    settings = Settings(
        host=given.get("POLLS_HOST", "127.0.0.1"),
        port=_whole(given, "POLLS_PORT", 8080, most=65535),
        mongodb_uri=_secret(given, "MONGODB_URI"),
        secret=_long_secret(given, "POLLS_SECRET"),
        data_dir=Path(given.get("POLLS_DATA_DIR", "data")),
        engine=_engine(given),
        mongod=Path(given["POLLS_MONGOD"]) if "POLLS_MONGOD" in given else None,
        admin_token=_long_secret(given, "POLLS_ADMIN_TOKEN"),
        max_body_bytes=_whole(given, "POLLS_MAX_BODY_BYTES", MAX_BODY_BYTES, most=2**30),
        public_url=_public_url(given),
        trusted_proxies=_networks(given, "POLLS_TRUSTED_PROXIES"),
        log_level=_log_level(given),
        token_rate=_rate(given, "POLLS_TOKEN_RATE", None),
        bad_token_rate=_rate(given, "POLLS_BAD_TOKEN_RATE", BAD_TOKEN_RATE),
        cors_origins=_origins(given, "POLLS_CORS_ORIGINS"),
        traces=_traces(given),
        event_loop=_event_loop(given),
        workers=_whole(given, "POLLS_WORKERS", 1, least=1, most=MAX_WORKERS),
        max_connections=_whole(given, "POLLS_MAX_CONNECTIONS", 10_000, least=1, most=10**6),
        client_seconds=_whole(given, "POLLS_CLIENT_SECONDS", 30, least=1, most=3600),
        keepalive_seconds=_whole(given, "POLLS_KEEPALIVE_SECONDS", 75, least=1, most=3600),
        drain_seconds=_whole(given, "POLLS_DRAIN_SECONDS", 0, most=3600),
        metrics_dir=Path(given["POLLS_METRICS_DIR"]) if "POLLS_METRICS_DIR" in given else None,
    )
    if settings.mongod is not None and settings.engine not in (None, "mongod"):
        raise InvalidSetting(
            f"POLLS_MONGOD names a mongod, and POLLS_ENGINE is {settings.engine!r}: unset one."
        )
    if settings.mongodb_uri is not None and settings.secret is None:
        raise InvalidSetting(
            "POLLS_SECRET must be set where MONGODB_URI is, or POLLS_SECRET_FILE: it keys the "
            "hashes of voters, and every process on that database needs the same. "
            "Make one with: openssl rand -hex 32"
        )
    return settings


def _secret(given: Mapping[str, str], name: str) -> str | None:
    """The variable, or the content of its file without the newline at the end.

    No message shows the content: not even a decoding error is kept as the cause.
    """
    file_name = SECRET_FILES[name]
    path = given.get(file_name)
    if path is None:
        return given.get(name)
    if name in given:
        raise InvalidSetting(f"Set either {name} or {file_name}, not both.")
    try:
        content = Path(path).read_text("utf-8")
    except UnicodeDecodeError:
        raise InvalidSetting(f"{file_name} names {path}, which is not UTF-8 text.") from None
    except (OSError, ValueError) as error:
        if not Path(path).is_absolute():
            # Somebody may have put the secret itself there.
            raise InvalidSetting(
                f"{file_name} names no file that can be read: it takes the path of the file that "
                f"holds {name}."
            ) from None
        reason = error.strerror if isinstance(error, OSError) else "it is no path"
        raise InvalidSetting(f"{file_name} names {path}, which cannot be read: {reason}.") from None
    if not (secret := content.removesuffix("\n")).strip():
        raise InvalidSetting(f"{file_name} names {path}, which is empty.")
    return secret


def _long_secret(given: Mapping[str, str], name: str) -> str | None:
    secret = _secret(given, name)
    if secret is not None and len(secret.strip()) < MIN_SECRET_CHARACTERS:
        raise InvalidSetting(
            f"{name} must have at least {MIN_SECRET_CHARACTERS} characters. "
            "Make one with: openssl rand -hex 32"
        )
    return secret


def _whole(given: Mapping[str, str], name: str, default: int, *, least: int = 0, most: int) -> int:
    text = given.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,12}", text) or not least <= int(text) <= most:
        raise InvalidSetting(
            f"{name} must be a whole number from {least} to {most}, and is {text!r}."
        )
    return int(text)


def _engine(given: Mapping[str, str]) -> str | None:
    name = given.get("POLLS_ENGINE")
    if name not in (None, *ENGINE_NAMES):
        raise InvalidSetting(
            f"POLLS_ENGINE must be one of {', '.join(ENGINE_NAMES)}, and is {name!r}."
        )
    return name


def _public_url(given: Mapping[str, str]) -> str | None:
    url = given.get("POLLS_PUBLIC_URL")
    if url is not None and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url):
        raise InvalidSetting(
            f"POLLS_PUBLIC_URL must be a base URL, as https://polls.example.com, and is {url!r}."
        )
    return url.rstrip("/") if url else None


def _networks(given: Mapping[str, str], name: str) -> tuple[Network, ...]:
    texts = [text.strip() for text in given.get(name, "").split(",") if text.strip()]
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        raise InvalidSetting(
            f"{name} must list addresses or networks, as 10.0.0.0/8,127.0.0.1: {error}."
        ) from error


def _log_level(given: Mapping[str, str]) -> LogLevel:
    level = given.get("POLLS_LOG_LEVEL", "info").lower()
    if level not in LOG_LEVELS:
        raise InvalidSetting(
            f"POLLS_LOG_LEVEL must be one of {', '.join(LOG_LEVELS)}, and is {level!r}."
        )
    return cast(LogLevel, level)


def _event_loop(given: Mapping[str, str]) -> EventLoop:
    name = given.get("POLLS_EVENT_LOOP", "auto")
    if name not in EVENT_LOOPS:
        raise InvalidSetting(
            f"POLLS_EVENT_LOOP must be one of {', '.join(EVENT_LOOPS)}, and is {name!r}."
        )
    if name == "uvloop" and importlib.util.find_spec("uvloop") is None:
        raise InvalidSetting(
            "POLLS_EVENT_LOOP is uvloop, which is not installed: "
            "pip install 'polls-service[speed]'."
        )
    return cast(EventLoop, name)


def _rate(
    given: Mapping[str, str], name: str, default: RateLimitItem | None
) -> RateLimitItem | None:
    """In the notation of the library limits, one rate; None for ``off``."""
    text = given.get(name)
    if text is None or text.lower() == "off":
        return default if text is None else None
    try:
        (rate,) = parse_many(text)
    except ValueError:
        rate = None
    if rate is None or not 1 <= rate.amount <= MAX_RATE or rate.get_expiry() > MAX_RATE:
        raise InvalidSetting(f"{name} must be one rate, as 600/minute, or off, and is {text!r}.")
    return rate


def _origins(given: Mapping[str, str], name: str) -> frozenset[str]:
    """As browsers write them: in small letters, without a path."""
    texts = [text.strip().lower() for text in given.get(name, "").split(",") if text.strip()]
    for text in texts:
        if text != "*" and not re.fullmatch(ORIGIN, text):
            raise InvalidSetting(
                f"{name} must list origins, as https://a.example,http://localhost:3000, or be *, "
                f"and has {text!r}."
            )
    return frozenset(texts)


def _traces(given: Mapping[str, str]) -> bool:
    """Whether the standard variables ask for traces; OpenTelemetry reads the others of them."""
    exporter = given.get("OTEL_TRACES_EXPORTER", "otlp")
    if exporter not in ("otlp", "none"):
        raise InvalidSetting(f"OTEL_TRACES_EXPORTER must be otlp or none, and is {exporter!r}.")
    is_asked_for = any(
        name in given
        for name in (
            "OTEL_TRACES_EXPORTER",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        )
    )
    is_disabled = given.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if exporter == "none" or is_disabled or not is_asked_for:
        return False
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if name in given:
            if given[name] != "http/protobuf":
                raise InvalidSetting(f"{name} must be http/protobuf, and is {given[name]!r}.")
            break
    return True
