"""The only place that chooses the parts and joins them."""

from __future__ import annotations

import importlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType

from aiohttp import web

from gateway import families
from gateway.ai import Ai, open_ai
from gateway.clock import Clock, Randomness, system_clock, system_randomness
from gateway.delivery.plan import DeliveryRules
from gateway.delivery.slices import Slices, cached
from gateway.errors import CannotStart, RecordsUnavailable
from gateway.identity.better_auth import BetterAuthSessions
from gateway.identity.guest import GuestSessions
from gateway.identity.jwt import JwtVerifier
from gateway.identity.service import ServiceKeys
from gateway.ingest import Ingest
from gateway.metadata import Metadata, Quota
from gateway.metadata.remembered import Remembered, remember
from gateway.metrics import Metrics
from gateway.settings import PurposeLimits, Settings
from gateway.sharing import Sharing
from gateway.storage import Storage
from gateway.sweeping import Sweeper
from gateway.web.assets import AssetRoutes
from gateway.web.authorizing import AuthorizeRoutes
from gateway.web.bodies import BODY_TIMEOUT
from gateway.web.callers import Callers
from gateway.web.claims import ClaimRoutes
from gateway.web.connections import LANE
from gateway.web.cors import CrossOrigin
from gateway.web.explaining import ExplainRoutes
from gateway.web.express.judging import Judge
from gateway.web.express.lane import Lane
from gateway.web.express.memory import Decisions
from gateway.web.heads import Shared
from gateway.web.health import HealthRoutes
from gateway.web.imports import ImportRoutes
from gateway.web.legacy import LegacyRoutes
from gateway.web.middleware import Problems, RequestIds
from gateway.web.modes import STREAM, Modes
from gateway.web.notify import NotifyRoutes
from gateway.web.observed import OBSERVED, AccessLog, Observed
from gateway.web.pages.activity import ActivityPages
from gateway.web.routes import Handlers, table
from gateway.web.signatures import SignatureRoutes
from gateway.web.tasks import TaskRoutes
from gateway.web.uploads import UploadRoutes
from policies.model import Rule, Visibility
from policies.purposes import Purpose
from policies.rules import STANDARD_RULES

log = logging.getLogger("assetgate.app")


@dataclass(frozen=True)
class Gateway:
    """The parts of one process, joined."""

    settings: Settings
    clock: Clock
    randomness: Randomness
    metadata: Remembered
    storage: Storage
    rules: Sequence[Rule]
    keys: Mapping[str, bytes]
    sharing: Sharing
    ingest: Ingest
    sweeper: Sweeper
    metrics: Metrics
    jwt: JwtVerifier | None
    better_auth: BetterAuthSessions | None
    ai: Ai


@asynccontextmanager
async def build(
    settings: Settings, clock: Clock = system_clock, randomness: Randomness = system_randomness
) -> AsyncIterator[Gateway]:
    """Open the parts that the settings name, and close them at the end. Raises `CannotStart`."""
    signing_keys = settings.signing.parsed
    if not signing_keys:
        raise CannotStart("signing.keys: is missing; make one with: assetgate keys new")
    rules = (*STANDARD_RULES, *(load_rule(path) for path in settings.policies.rules))
    purposes = {name: purpose_of(name, limits) for name, limits in settings.purposes.items()}
    async with AsyncExitStack() as open_parts:
        records: Metadata = await member_of("metadata", settings.metadata).open_metadata(settings, clock)
        metadata = await remember(records, settings.records)
        open_parts.push_async_callback(metadata.close)
        objects: Storage = await member_of("storage", settings.storage).open_storage(settings, clock)
        storage = await cached(objects, settings.cache, clock)
        open_parts.push_async_callback(storage.close)
        jwt = JwtVerifier(settings.identity.jwt, clock) if settings.identity.jwt else None
        if jwt is not None:
            open_parts.push_async_callback(jwt.close)
        better_auth = (
            BetterAuthSessions(settings.identity.better_auth, clock) if settings.identity.better_auth else None
        )
        if better_auth is not None:
            await _open_sessions(better_auth)
            open_parts.push_async_callback(better_auth.close)
        quota = Quota(settings.guests.max_files, settings.guests.max_bytes)
        metrics, sharing = Metrics(), Sharing(metadata, signing_keys, purposes, rules, clock)
        if isinstance(storage, Slices):
            metrics.registry.late.append(partial(_tell_cache, metrics, storage))
        ingest = Ingest(metadata, storage, purposes, quota, settings.guests.ttl, clock, randomness)
        ai = await open_parts.enter_async_context(
            open_ai(settings, metadata, storage, ingest, sharing, metrics, clock, randomness)
        )
        yield Gateway(
            settings=settings,
            clock=clock,
            randomness=randomness,
            metadata=metadata,
            storage=storage,
            rules=rules,
            keys={key.kid: key.key for key in signing_keys},
            sharing=sharing,
            ingest=ingest,
            sweeper=Sweeper(metadata, storage, settings.sweep, clock),
            metrics=metrics,
            jwt=jwt,
            better_auth=better_auth,
            ai=ai,
        )


async def _open_sessions(better_auth: BetterAuthSessions) -> None:
    """Look at the application's session table; while its database is away that waits for the first session."""
    try:
        await better_auth.open()
    except RecordsUnavailable:
        log.warning("the database of identity.better_auth is away; its sessions are looked up when it is back")


def _tell_cache(metrics: Metrics, slices: Slices) -> None:
    metrics.tell_cache(*slices.told())


def web_application(gateway: Gateway, access_log: AccessLog | None = None) -> web.Application:
    """Make the HTTP side of a gateway; its express lane, where it has one, is under `LANE`."""
    settings = gateway.settings
    guests = GuestSessions(settings.signing.parsed, settings.guests, gateway.randomness)
    callers = Callers(
        settings.identity,
        settings.server,
        settings.cors.origins,
        gateway.jwt,
        gateway.better_auth,
        ServiceKeys(settings.identity.services),
        guests,
    )
    # A rule of the operator's own may look at more than what is remembered of a question: it is asked every time.
    decisions = Decisions(gateway.metadata if settings.server.express and not settings.policies.rules else None)
    cors, observed = CrossOrigin(settings.cors), Observed(gateway.metrics, access_log)
    request_ids = RequestIds(gateway.randomness, callers.proxies.trusts)
    application = web.Application(
        middlewares=[observed.middleware(), Problems(request_ids).middleware(), cors.middleware()],
        client_max_size=settings.server.max_json_bytes,
    )
    application[BODY_TIMEOUT] = settings.server.body_timeout
    application[OBSERVED] = observed
    application[LANE] = _lane(gateway, decisions, callers, request_ids, observed)
    application.on_response_prepare.append(cors.add_headers)
    application.add_routes(table(_handlers(gateway, callers, guests, decisions)))
    return application


def _lane(
    gateway: Gateway, decisions: Decisions, callers: Callers, request_ids: RequestIds, observed: Observed
) -> Lane | None:
    if not decisions.is_open:
        return None
    delivery = _delivery_rules(gateway.settings)
    modes = _modes(gateway, callers)
    judge = Judge(
        decisions, gateway.metadata, gateway.rules, gateway.keys, delivery, lambda grant: modes.of(grant) == STREAM
    )
    return Lane(
        judge,
        gateway.storage,
        delivery,
        Shared.of(gateway.settings.cors),
        callers.proxies,
        request_ids,
        observed,
        gateway.clock,
    )


def _delivery_rules(settings: Settings) -> DeliveryRules:
    return DeliveryRules(
        settings.delivery.resource_policy,
        settings.delivery.public_max_age,
        settings.delivery.public_stale_while_revalidate,
    )


def _modes(gateway: Gateway, callers: Callers) -> Modes:
    return Modes(gateway.settings.delivery, gateway.ingest.purposes, gateway.storage, callers)


def _handlers(gateway: Gateway, callers: Callers, guests: GuestSessions, decisions: Decisions) -> Handlers:
    settings, metadata, storage = gateway.settings, gateway.metadata, gateway.storage
    uploads = UploadRoutes(callers, gateway.ingest, guests, gateway.metrics)
    assets = AssetRoutes(
        callers,
        metadata,
        storage,
        gateway.sharing,
        gateway.rules,
        gateway.keys,
        _delivery_rules(settings),
        _modes(gateway, callers),
        Shared.of(settings.cors),
        decisions,
        gateway.metrics,
        gateway.clock,
    )
    return Handlers(
        assets=assets,
        authorizing=AuthorizeRoutes(assets),
        uploads=uploads,
        signatures=SignatureRoutes(callers, gateway.sharing),
        claims=ClaimRoutes(callers, metadata, guests, gateway.clock),
        explaining=ExplainRoutes(callers, metadata, gateway.rules, gateway.keys, gateway.clock),
        tasks=TaskRoutes(callers, gateway.ai.tasks, gateway.sharing),
        notify=NotifyRoutes(
            gateway.ai.desks,
            gateway.ai.tasks,
            settings.tasks.max_notification_bytes,
            gateway.metrics,
            gateway.clock,
        ),
        imports=ImportRoutes(callers, gateway.ai.imports, gateway.ingest),
        activity=ActivityPages(callers, gateway.ai.tasks),
        legacy=LegacyRoutes(callers, uploads, settings.legacy, gateway.metrics),
        health=HealthRoutes(metadata, storage, gateway.metrics),
    )


def member_of(family: str, url: str) -> ModuleType:
    """Import the member that a setting's URL names by its scheme. Raises `CannotStart`."""
    scheme = url.partition("://")[0]
    return families.member(family, {"postgresql": "postgres"}.get(scheme, scheme))


def purpose_of(name: str, limits: PurposeLimits) -> Purpose:
    return Purpose(
        name=name,
        types=limits.types,
        max_bytes=limits.max_bytes,
        guests=limits.guests,
        visibility=Visibility(limits.visibility),
        owner=limits.owner,
        roles=frozenset(limits.roles),
        url_ttl=limits.url_ttl,
        delivery=limits.delivery,
    )


def load_rule(path: str) -> Rule:
    """Import an operator's own rule, `package.module:function`. Raises `CannotStart` naming the path."""
    module, colon, name = path.partition(":")
    if not colon:
        module, _, name = path.rpartition(".")
    try:
        rule = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CannotStart(f"policies.rules: {path!r} cannot be imported: {error}") from error
    if not callable(rule):
        raise CannotStart(f"policies.rules: {path!r} is no function")
    return rule  # type: ignore[no-any-return]  # its signature is the operator's promise
