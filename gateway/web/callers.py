"""Tells from a request who is asking: their credential, their address, and the site they come from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from gateway.errors import CredentialInvalid, Forbidden, InvalidRequest
from gateway.identity import Identified, guest, refused
from gateway.identity.better_auth import BetterAuthSessions, cookie_names
from gateway.identity.guest import GuestSessions
from gateway.identity.jwt import JwtVerifier
from gateway.identity.service import ServiceKeys
from gateway.model import PATH_PREFIX
from gateway.settings import Identity, Server
from gateway.web.addresses import Proxies, parsed
from gateway.web.middleware import CALLER, HEADERS, peer_of
from policies.model import ANONYMOUS, Caller, CallerKind

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
SERVICE_KEY_PREFIX: Final = "ag_"
# RFC 3986, section 3.2.2, less what no browser sends; it ends up in URLs of ours.
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


class Callers:
    """Turns requests into callers. A bad credential is an error; it never falls back to anonymous."""

    def __init__(
        self,
        identity: Identity,
        server: Server,
        origins: Sequence[str],
        jwt: JwtVerifier | None,
        better_auth: BetterAuthSessions | None,
        services: ServiceKeys,
        guests: GuestSessions,
    ) -> None:
        self._jwt = jwt
        self._jwt_cookie = identity.jwt.cookie if identity.jwt else None
        self._better_auth = better_auth
        self._session_cookies = cookie_names(identity.better_auth) if identity.better_auth else ()
        self._services = services
        self._guests = guests
        self._server = server
        self.proxies = Proxies(server.trusted_proxies)
        self._origins = frozenset(origins)

    async def identify(self, request: web.Request) -> Caller:
        """Return who asks. Raises `CredentialInvalid`, and `Forbidden` (cross_site) for a forged form of theirs."""
        if not _HOST.fullmatch(request.host):
            raise InvalidRequest("The Host header is malformed", fields={"Host": "is malformed"})
        caller = await self._by_header(request) or await self._by_cookie(request)
        caller = replace(caller, address=self.address(request))
        request[CALLER] = caller
        if caller.by_cookie and request.method not in SAFE_METHODS:
            self._refuse_other_sites(request)
        return caller

    def address(self, request: web.Request) -> str | None:
        """The client's address, as far as trusted proxies tell it."""
        return self.proxies.client(peer_of(request), request.headers.get("X-Forwarded-For"))

    def is_behind_trusted_proxy(self, request: web.Request) -> bool:
        return self.proxies.trusts(peer_of(request))

    def base(self, request: web.Request) -> str:
        """The base of absolute URLs: `server.public_url`, else what the request (or a trusted proxy) names."""
        if self._server.public_url:
            return self._server.public_url
        scheme, host = request.scheme, request.host
        if self.is_behind_trusted_proxy(request):
            scheme = request.headers.get("X-Forwarded-Proto", scheme)
            host = request.headers.get("X-Forwarded-Host", host)
            if scheme not in {"http", "https"} or not _HOST.fullmatch(host):
                raise InvalidRequest("The proxy's X-Forwarded-Proto or X-Forwarded-Host is malformed")
        return f"{scheme}://{host}"

    def is_secure(self, request: web.Request) -> bool:
        """Tell whether cookies are to be `Secure`: always, but for plain http on loopback."""
        url = urlsplit(self.base(request))
        loopback = url.hostname == "localhost" or _is_loopback(url.hostname or "")
        return not (url.scheme == "http" and loopback)

    async def _by_header(self, request: web.Request) -> Caller | None:
        values = request.headers.getall(hdrs.AUTHORIZATION, ())
        if not values:
            return None
        scheme, _, credential = values[0].partition(" ")
        if len(values) > 1 or scheme.lower() != "bearer" or not credential.strip():
            raise refused("Send one Authorization header of the form: Bearer <token>")
        credential = credential.strip()
        if credential.startswith(SERVICE_KEY_PREFIX):
            service = self._services.identify(credential)
            return Caller(CallerKind.SERVICE, service.id, scopes=service.scopes)
        if self._jwt is None:
            raise refused("This gateway takes no JWT")
        return self._user(await self._jwt.verify(credential), request, by_cookie=False)

    async def _by_cookie(self, request: web.Request) -> Caller:
        if hdrs.COOKIE not in request.headers:
            return ANONYMOUS
        cookies = request.cookies
        if self._jwt is not None and self._jwt_cookie is not None and self._jwt_cookie in cookies:
            return self._user(await self._jwt.verify(cookies[self._jwt_cookie]), request, by_cookie=True)
        for name in self._session_cookies:
            if self._better_auth is not None and name in cookies:
                return self._user(await self._better_auth.identify(cookies[name]), request, by_cookie=True)
        value = cookies.get(guest.COOKIE_NAME)
        if value is None:
            return ANONYMOUS
        secure = self.is_secure(request)
        try:
            session = self._guests.identify(value)
        except CredentialInvalid as invalid:
            # The browser would send it for ever; without it, it is a guest like any other.
            invalid.headers[hdrs.SET_COOKIE] = guest.clear_cookie_header(secure)
            raise
        if not request.path.startswith(PATH_PREFIX) or request.method not in SAFE_METHODS:
            # Renewed as it is used, but never with an asset's bytes, which caches keep.
            renewed = self._guests.set_cookie_header(self._guests.renew(value), secure)
            request[HEADERS] = {**request.get(HEADERS, {}), hdrs.SET_COOKIE: renewed}
        return Caller(CallerKind.GUEST, session, guest=session, by_cookie=True)

    def _user(self, identified: Identified, request: web.Request, *, by_cookie: bool) -> Caller:
        return Caller(
            CallerKind.USER,
            identified.id,
            roles=identified.roles,
            until=identified.until,
            guest=self._guest_beside(request.cookies),
            by_cookie=by_cookie,
        )

    def _guest_beside(self, cookies: Mapping[str, str]) -> str | None:
        """The guest session that a user still carries; a bad one proves nothing and is not what they came by."""
        value = cookies.get(guest.COOKIE_NAME)
        if value is None:
            return None
        try:
            return self._guests.identify(value)
        except CredentialInvalid:
            return None

    def _refuse_other_sites(self, request: web.Request) -> None:
        """Raise `Forbidden` when a browser says that another site made it send this request."""
        origin = request.headers.get("Origin")
        if origin is not None:
            if origin in self._origins:
                return
            if origin != _origin_of(self.base(request)):
                raise Forbidden("The request comes from another site", error="cross_site")
        if request.headers.get("Sec-Fetch-Site") == "cross-site":
            raise Forbidden("The request comes from another site", error="cross_site")


def _is_loopback(text: str) -> bool:
    address = parsed(text)
    return address is not None and address.is_loopback


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
