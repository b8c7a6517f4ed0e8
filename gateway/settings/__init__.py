"""What an operator can set: frozen, checked as a whole, each by the name to type (contract, section 2)."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import date
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    model_validator,
)

from gateway.settings.units import parse_duration, parse_list, parse_size

Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]  # bytes
Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]  # seconds
Strings = Annotated[tuple[str, ...], BeforeValidator(parse_list)]
Networks = Annotated[tuple[IPvAnyNetwork, ...], BeforeValidator(parse_list)]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(parse_list)]

SCOPES = frozenset({"sign", "upload", "read", "resolve", "tasks", "admin"})
_KID = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")
_SHA256_HEX = re.compile(r"[0-9a-f]{64}\Z")
_SMALLEST_SLICE = 64 * 1024  # bytes; below it, files and requests cost more than the bytes
_LARGEST_SLICE = 64 * 1024 * 1024  # bytes; above it, a seek fetches far more than is looked at
_SHORTEST_KEY = 16  # bytes; RFC 2104, section 3, discourages HMAC keys shorter than the hash, and these are the floor


class SigningKey(NamedTuple):
    """A key of access tokens, under the name that tokens carry."""

    kid: str
    key: bytes


def parse_signing_keys(text: str) -> tuple[SigningKey, ...]:
    """Read `kid:base64url[,kid:base64url…]`. Raises ValueError that says which entry is wrong, never its key."""
    keys: list[SigningKey] = []
    for number, entry in enumerate(text.split(","), start=1):
        kid, colon, encoded = entry.strip().partition(":")
        if not colon or not _KID.match(kid):
            raise ValueError(f"entry {number} is not of the form kid:base64url")
        try:
            key = base64.b64decode(encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"the key of {kid!r} is not base64url") from None
        if len(key) < _SHORTEST_KEY:
            raise ValueError(f"the key of {kid!r} is shorter than {_SHORTEST_KEY} bytes")
        if any(kid == other.kid for other in keys):
            raise ValueError(f"the kid {kid!r} stands there twice")
        keys.append(SigningKey(kid, key))
    return tuple(keys)


def _checked_keys(value: SecretStr) -> SecretStr:
    parse_signing_keys(value.get_secret_value())
    return value


def _checked_public_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", value):
        raise ValueError("is not an http or https URL without query")
    return value.rstrip("/")


class Section(BaseModel):
    """A table of the settings: unknown keys are errors, and nothing changes after the start."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Server(Section):
    host: str
    port: int = Field(ge=0, le=65535)
    workers: int = Field(ge=0, le=256)
    public_url: Annotated[str, AfterValidator(_checked_public_url)] | None = None
    trusted_proxies: Networks
    max_json_bytes: Size
    body_timeout: Duration
    drain_timeout: Duration
    express: bool


class Cors(Section):
    origins: Strings
    max_age: Duration


class Postgres(Section):
    """How `metadata = "postgresql://…"` is used. `listen_url` leads past the pooler, for LISTEN alone."""

    pool_size: int = Field(ge=1, le=1000)
    connect_timeout: Duration
    statement_timeout: Duration
    pgbouncer: bool
    listen_url: SecretStr | None = None


class D1(Section):
    """How `metadata = "d1://…"` is used."""

    api_token: SecretStr | None = None
    base_url: Annotated[str, AfterValidator(_checked_public_url)]
    requests_per_second: float = Field(gt=0)
    burst: int = Field(ge=1)
    longest_wait: Duration
    timeout: Duration


class Records(Section):
    """How long records are remembered; `remember` is how many, 0 none."""

    remember: int = Field(ge=0)
    remember_for: Duration
    unannounced_for: Duration
    absent_for: Duration
    stale_for: Duration


class Cache(Section):
    path: str
    max_bytes: Size
    memory_bytes: Size
    slice_bytes: Annotated[Size, Field(ge=_SMALLEST_SLICE, le=_LARGEST_SLICE)]
    read_ahead: Size
    admit_after: int = Field(ge=1)


class S3(Section):
    """Bounds of an s3:// storage. `attempts` counts the first one; the timeouts are in seconds."""

    read_connections: int = Field(ge=1, le=65536)
    read_patience: Duration
    write_connections: int = Field(ge=1, le=65536)
    connect_timeout: Duration
    answer_timeout: Duration
    idle_timeout: Duration
    attempts: int = Field(ge=1, le=100)
    retry_delay: Duration
    ca_file: str | None = None


class Signing(Section):
    keys: Annotated[SecretStr, AfterValidator(_checked_keys)] | None = None

    @property
    def parsed(self) -> tuple[SigningKey, ...]:
        """The keys in order: the first signs, all verify."""
        return parse_signing_keys(self.keys.get_secret_value()) if self.keys else ()


class Jwt(Section):
    secret: SecretStr | None = None
    jwks_url: str | None = None
    issuer: str | None = None
    audience: str | None = None
    algorithms: Strings = ()
    user_claim: str = "sub"
    roles_claim: str = "roles"
    cookie: str | None = None

    @model_validator(mode="after")
    def _one_source_of_keys(self) -> Self:
        if (self.secret is None) == (self.jwks_url is None):
            raise ValueError("set either secret or jwks_url")
        symmetric = {name for name in self.algorithms if name.startswith("HS")}
        if "none" in {name.lower() for name in self.algorithms}:
            raise ValueError("algorithms: 'none' is never accepted")
        # A public key taken for an HMAC secret lets anyone sign (RFC 8725, section 2.1).
        if self.jwks_url is not None and symmetric:
            raise ValueError("algorithms: HS… does not go with jwks_url")
        if self.secret is not None and set(self.algorithms) - symmetric:
            raise ValueError("algorithms: only HS256, HS384 and HS512 go with secret")
        return self

    @property
    def pinned(self) -> tuple[str, ...]:
        """The algorithms that are accepted."""
        if self.algorithms:
            return self.algorithms
        return ("HS256",) if self.secret is not None else ("RS256", "ES256", "EdDSA")


class BetterAuth(Section):
    secret: SecretStr
    cookie: str = "better-auth.session_token"
    database: str
    cache: Duration = 5.0


class Service(Section):
    key_sha256: str
    scopes: Strings

    @model_validator(mode="after")
    def _known(self) -> Self:
        if not _SHA256_HEX.match(self.key_sha256):
            raise ValueError("key_sha256: must be 64 lower-case hex digits")
        unknown = set(self.scopes) - SCOPES
        if unknown:
            raise ValueError(f"scopes: unknown {', '.join(sorted(unknown))}; there are {', '.join(sorted(SCOPES))}")
        return self


class Identity(Section):
    jwt: Jwt | None = None
    better_auth: BetterAuth | None = None
    services: dict[str, Service] = {}


class Guests(Section):
    ttl: Duration
    max_files: int = Field(ge=0)
    max_bytes: Size


class PurposeLimits(Section):
    """What one purpose allows. `types` are media types or `image/*` patterns; `owner` is who owns what comes in."""

    types: Strings
    max_bytes: Size
    guests: bool = False
    visibility: Literal["private", "public"] = "private"
    owner: Literal["caller", "system"] = "caller"
    roles: Strings = ()
    url_ttl: Duration = 3600.0
    delivery: Literal["stream", "redirect", "accel"] | None = None


class Delivery(Section):
    mode: Literal["stream", "redirect", "accel"]
    resource_policy: Literal["same-origin", "same-site", "cross-origin"]
    public_max_age: Duration
    public_stale_while_revalidate: Duration
    redirect_sessions: bool
    accel_files: bool


class Policies(Section):
    rules: Strings


class Legacy(Section):
    upload_image: Literal["warn", "gone"]
    proxy_file: Literal["warn", "gone"]
    sunset: date


class Provider(Section):
    api_key: SecretStr | None = None
    webhook_secrets: Secrets = ()
    base_url: str | None = None
    result_hosts: Strings | None = None
    jwks_url: str | None = None
    user_id: str | None = None


class Fetch(Section):
    max_bytes: Size
    timeout: Duration
    allow_http: bool
    allow_networks: Networks


class Worker(Section):
    inline: bool


class Tasks(Section):
    """AI tasks: how long is waited for what, and how much is done at once."""

    deadline: Duration
    creation_patience: Duration
    creation_grace: Duration
    reference_life: Annotated[Duration, Field(gt=0, le=7 * 86400)]
    first_ask: Duration
    longest_wait: Duration
    query_interval: Duration
    retention: Duration
    copies: int = Field(ge=1, le=256)
    copies_per_host: int = Field(ge=1, le=256)
    lease: Annotated[Duration, Field(ge=1)]
    interval: Annotated[Duration, Field(gt=0)]
    max_notification_bytes: Size


class Sweep(Section):
    interval: Duration
    orphans_interval: Duration
    abandoned_after: Duration
    remember_for: Duration


class Log(Section):
    format: Literal["auto", "json", "text"]


class Settings(Section):
    """All settings. `config/default.toml` holds the defaults; `gateway.settings.reading` lays the others over them."""

    server: Server
    cors: Cors
    metadata: str
    storage: str
    postgres: Postgres
    d1: D1
    records: Records
    s3: S3
    cache: Cache
    signing: Signing
    identity: Identity
    guests: Guests
    purposes: dict[str, PurposeLimits]
    delivery: Delivery
    policies: Policies
    legacy: Legacy
    providers: dict[str, Provider]
    fetch: Fetch
    worker: Worker
    tasks: Tasks
    sweep: Sweep
    log: Log
