"""Settings from environment variables, read once at the start."""

import importlib.util
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from aiohttp import web
from limits import RateLimitItem, parse, parse_many

from storage.location import ENGINE_NAMES, EngineChoice, Location

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
EventLoop = Literal["auto", "asyncio", "uvloop"]

MAX_BODY_BYTES = 1024 * 1024
MAX_WORKERS = 256
MAX_RESTORE_HOURS = 366 * 24
MAX_RATE = 10**15 - 1
"""The largest integer of a structured field (RFC 9651, section 3.3.1)."""
MIN_SECRET_CHARACTERS = 16
SECRET_FILES = {
    "MONGODB_URI": "MONGODB_URI_FILE",
    "POLLS_SECRET": "POLLS_SECRET_FILE",
    "POLLS_ADMIN_TOKEN": "POLLS_ADMIN_TOKEN_FILE",
}
"""Each secret may instead be the content of the file that the second variable names."""
ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?|\*")
NOBODY, ITSELF = "'none'", "'self'"
FRAME_WORDS = {"none": NOBODY, "self": ITSELF}
ANCESTOR = re.compile(
    rf"{NOBODY}|{ITSELF}|https?://(\*\.)?([a-z0-9._-]+|\[[0-9a-f:.]+\])(:([0-9]{{1,5}}|\*))?"
)
BASE_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")
BAD_TOKEN_RATE = parse("60/minute")
EMBEDDED_URI = "POLLS_EMBEDDED_URI"
"""Internal: the parent tells its workers the address of its embedded server."""
MAKE_SECRET = "Make one with: openssl rand -hex 32"  # noqa: S105 - advice, not a secret


class InvalidSetting(Exception):
    """A variable has an unusable value. The text is one sentence that names the variable."""


# Parsers of values. A ValueError says what the value must be.


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return parse


def _log_level(text: str) -> str:
    return _one_of("debug", "info", "warning", "error")(text.lower())


def _event_loop(text: str) -> str:
    name = _one_of(*get_args(EventLoop))(text)
    if name == "uvloop" and importlib.util.find_spec("uvloop") is None:
        raise InvalidSetting(
            "POLLS_EVENT_LOOP is uvloop, which is not installed. Install the extra speed: "
            "pip install --editable '.[speed]'."
        )
    return name


def _long(secret: str) -> str:
    if len(secret.strip()) < MIN_SECRET_CHARACTERS:
        raise ValueError(f"must have at least {MIN_SECRET_CHARACTERS} characters. {MAKE_SECRET}")
    return secret


def _base_url(url: str) -> str:
    if not BASE_URL.fullmatch(url):
        raise ValueError("must be a base URL, such as https://polls.example.com")
    return url.rstrip("/")


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _writable_directory(text: str) -> Path:
    if not Path(text).is_dir() or not os.access(text, os.W_OK | os.X_OK):
        raise ValueError("must be a directory that the service may write to")
    return Path(text)


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(map(ipaddress.ip_network, _items(text)))
    except ValueError as error:
        raise ValueError("must list addresses or networks, such as 10.0.0.0/8,127.0.0.1") from error


def _origins(text: str) -> frozenset[str]:
    """In lower case and without a path, as browsers send them."""
    origins = frozenset(_items(text.lower()))
    if not all(map(ORIGIN.fullmatch, origins)):
        raise ValueError("must be * or list origins, such as https://a.example,http://b.example")
    return origins


def _frame_ancestors(text: str) -> str:
    """The value of the directive ``frame-ancestors`` (CSP, level 3), with its quotes."""
    sources = [FRAME_WORDS.get(item, item) for item in text.lower().replace(",", " ").split()]
    is_list = bool(sources) and (len(sources) == 1 or NOBODY not in sources)
    if not is_list or not all(map(ANCESTOR.fullmatch, sources)):
        raise ValueError("must be none, or list self and origins, such as https://*.example.com")
    return " ".join(sources)


def _rate(text: str) -> RateLimitItem | None:
    """One rate in the notation of the library limits; None for ``off``."""
    if text.lower() == "off":
        return None
    try:
        (rate,) = parse_many(text)
    except ValueError:
        rate = None
    if rate is None or not 1 <= rate.amount <= MAX_RATE or rate.get_expiry() > MAX_RATE:
        raise ValueError("must be one rate, such as 600/minute, or off")
    return rate


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings: environment variable, parser and default. The repr leaves out secrets."""

    host: Annotated[str, "POLLS_HOST", str] = "127.0.0.1"
    port: Annotated[int, "POLLS_PORT", _whole(0, 65535)] = 8080
    mongodb_uri: Annotated[str | None, "MONGODB_URI", str] = field(default=None, repr=False)
    secret: Annotated[str | None, "POLLS_SECRET", _long] = field(default=None, repr=False)
    data_dir: Annotated[Path, "POLLS_DATA_DIR", Path] = Path("data")
    engine: Annotated[str | None, "POLLS_ENGINE", _one_of(*ENGINE_NAMES)] = None
    mongod: Annotated[Path | None, "POLLS_MONGOD", Path] = None
    admin_token: Annotated[str | None, "POLLS_ADMIN_TOKEN", _long] = field(default=None, repr=False)
    max_body_bytes: Annotated[int, "POLLS_MAX_BODY_BYTES", _whole(0, 2**30)] = MAX_BODY_BYTES
    public_url: Annotated[str | None, "POLLS_PUBLIC_URL", _base_url] = None
    trusted_proxies: Annotated[tuple[Network, ...], "POLLS_TRUSTED_PROXIES", _networks] = ()
    log_level: Annotated[str, "POLLS_LOG_LEVEL", _log_level] = "info"
    token_rate: Annotated[RateLimitItem | None, "POLLS_TOKEN_RATE", _rate] = None
    bad_token_rate: Annotated[RateLimitItem | None, "POLLS_BAD_TOKEN_RATE", _rate] = BAD_TOKEN_RATE
    cors_origins: Annotated[frozenset[str], "POLLS_CORS_ORIGINS", _origins] = frozenset()
    frame_ancestors: Annotated[str, "POLLS_FRAME_ANCESTORS", _frame_ancestors] = NOBODY
    traces: bool = False
    event_loop: Annotated[EventLoop, "POLLS_EVENT_LOOP", _event_loop] = "auto"
    workers: Annotated[int, "POLLS_WORKERS", _whole(1, MAX_WORKERS)] = 1
    max_connections: Annotated[int, "POLLS_MAX_CONNECTIONS", _whole(1, 10**6)] = 12_000
    max_exports: Annotated[int, "POLLS_MAX_EXPORTS", _whole(1, 100)] = 4
    max_streams: Annotated[int, "POLLS_MAX_STREAMS", _whole(0, 10**6)] = 10_000
    client_seconds: Annotated[float, "POLLS_CLIENT_SECONDS", _whole(1, 3600)] = 30
    keepalive_seconds: Annotated[float, "POLLS_KEEPALIVE_SECONDS", _whole(1, 3600)] = 75
    drain_seconds: Annotated[float, "POLLS_DRAIN_SECONDS", _whole(0, 3600)] = 0
    restore_hours: Annotated[int, "POLLS_RESTORE_HOURS", _whole(0, MAX_RESTORE_HOURS)] = 24
    metrics_dir: Annotated[Path | None, "POLLS_METRICS_DIR", _writable_directory] = None

    @property
    def stream_limit(self) -> int:
        """Event streams leave a tenth of the connections to everybody else."""
        return min(self.max_streams, self.max_connections - self.max_connections // 10)

    @property
    def restorable_for(self) -> timedelta:
        """How long a deleted poll can be restored."""
        return timedelta(hours=self.restore_hours)

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
    """Reads ``environment``, by default that of the process.

    An empty variable counts as unset. The files of secrets are read here, so a changed file takes
    effect at the next start. Raises ``InvalidSetting``.
    """
    variables = os.environ if environment is None else environment
    given = {name: value for name, value in variables.items() if value}
    values: dict[str, Any] = {"traces": _traces(given)}
    for setting, hint in get_type_hints(Settings, include_extras=True).items():
        if get_origin(hint) is not Annotated:
            continue
        _, name, parse = get_args(hint)
        is_secret = name in SECRET_FILES
        text = _secret(given, name) if is_secret else given.get(name)
        try:
            if text is not None:
                values[setting] = parse(text)
        except ValueError as error:
            raise InvalidSetting(
                f"{name} {error}" + ("" if is_secret else f", not {text!r}.")
            ) from None
    settings = Settings(**values)
    if settings.mongod is not None and settings.engine not in (None, "mongod"):
        raise InvalidSetting(
            f"POLLS_MONGOD cannot be combined with POLLS_ENGINE={settings.engine}: unset one."
        )
    if settings.mongodb_uri is not None and settings.secret is None:
        raise InvalidSetting(
            "POLLS_SECRET or POLLS_SECRET_FILE must be set if MONGODB_URI is: it keys the hashes "
            f"of voters, and all processes on that database need the same one. {MAKE_SECRET}"
        )
    return settings


def _secret(given: Mapping[str, str], name: str) -> str | None:
    """The variable, or the content of its file without the newline at the end.

    No message shows the content, and a decoding error, which holds it, is not kept as the cause.
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
        reason = "is not UTF-8 text"
    except (OSError, ValueError) as error:
        if not Path(path).is_absolute():
            # The value may be the secret itself.
            raise InvalidSetting(
                f"{file_name} does not name a readable file: set it to the path of the file that "
                f"contains {name}."
            ) from None
        detail = error.strerror if isinstance(error, OSError) else "not a valid path"
        reason = f"cannot be read: {detail}"
    else:
        if (secret := content.removesuffix("\n")).strip():
            return secret
        reason = "is empty"
    raise InvalidSetting(f"{file_name} names {path}, which {reason}.")


def _traces(given: Mapping[str, str]) -> bool:
    """Whether the standard variables ask for traces; OpenTelemetry itself reads the others."""
    exporter = given.get("OTEL_TRACES_EXPORTER", "otlp")
    if exporter not in ("otlp", "none"):
        raise InvalidSetting(f"OTEL_TRACES_EXPORTER must be otlp or none, not {exporter!r}.")
    is_asked_for = given.keys() & {
        "OTEL_TRACES_EXPORTER",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    }
    is_disabled = given.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if exporter == "none" or is_disabled or not is_asked_for:
        return False
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if name in given:
            if given[name] != "http/protobuf":
                raise InvalidSetting(f"{name} must be http/protobuf, not {given[name]!r}.")
            break
    return True
