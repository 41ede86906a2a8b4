"""Every call there is, and what the handler of each is given."""

from collections.abc import Mapping
from dataclasses import dataclass

from tornado.web import url

from config import Config
from handlers.access import Access
from handlers.auth import LoginHandler, LogoutHandler, MeHandler, RefreshHandler, RegisterHandler, SignedOut
from handlers.contracts import asyncapi, openapi
from handlers.cors import Cors
from handlers.dreams import DreamHandler, DreamsHandler
from handlers.events import EventsHandler
from handlers.health import Check, HealthHandler, ReadyHandler
from handlers.images import ImageHandler, ImagesHandler, OriginalHandler, RetryHandler
from handlers.inflight import InFlight
from handlers.limits import RateLimits
from handlers.media import MediaHandler
from handlers.metrics import Meters, MetricsHandler
from handlers.pages import ContractHandler, PageHandler, Web
from handlers.passwords import Passwords
from handlers.server_info import ServerInfoHandler, server_body
from handlers.subscribers import Subscribers
from handlers.tokens import Tokens
from handlers.views import UrlForHost
from handlers.websocket import DreamSocket
from storage.dreams import Dreams
from storage.files import StoredFiles
from storage.jobs import Jobs
from storage.local import LocalFiles
from storage.staging import Staging
from storage.users import Users


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What `server.py` has built, for the rows below to choose from."""

    access: Access
    cors: Cors
    in_flight: InFlight
    tokens: Tokens
    limits: RateLimits
    passwords: Passwords
    users: Users
    dreams: Dreams
    jobs: Jobs
    files: StoredFiles
    local: LocalFiles
    staging: Staging
    subscribers: Subscribers
    url_for_host: UrlForHost
    signed_out: SignedOut
    checks: Mapping[str, Check]
    meters: Meters
    web: Web


def routes(config: Config, p: Parts) -> list[url]:
    api = {"access": p.access, "cors": p.cors, "in_flight": p.in_flight, "tokens": p.tokens}
    accounts = {**api, "users": p.users, "signed_out": p.signed_out}
    registering = {"registration_open": config.auth.registration == "open"}
    signing_in = {**api, "users": p.users, "passwords": p.passwords, "limits": p.limits}
    dreams = {**api, "dreams": p.dreams}
    shown = {**dreams, "url_for_host": p.url_for_host}
    listening = {**dreams, "subscribers": p.subscribers}
    uploads = {**shown, "staging": p.staging, "allowed": config.images, "limits": p.limits}
    socket = {
        "access": p.access,
        "cors": p.cors,
        "tokens": p.tokens,
        "dreams": p.dreams,
        "subscribers": p.subscribers,
        "settings": config.websocket,
    }
    page = {"web": p.web, "pictures": p.files.origins}
    image = r"/api/dreams/([^/]+)/images/(\d{1,9})"
    return [
        url(r"/api/server", ServerInfoHandler, {**api, "body": server_body(config)}),
        url(r"/api/auth/register", RegisterHandler, {**signing_in, **registering}),
        url(r"/api/auth/login", LoginHandler, signing_in),
        url(r"/api/auth/refresh", RefreshHandler, accounts),
        url(r"/api/auth/logout", LogoutHandler, accounts),
        url(r"/api/me", MeHandler, {**accounts, "dreams": p.dreams}),
        url(r"/api/dreams", DreamsHandler, uploads),
        url(r"/api/dreams/([^/]+)", DreamHandler, {**listening, "url_for_host": p.url_for_host}),
        url(r"/api/dreams/([^/]+)/events", EventsHandler, {**listening, "settings": config.websocket}),
        url(r"/api/dreams/([^/]+)/images", ImagesHandler, uploads),
        url(image, ImageHandler, dreams),
        url(image + r"/retry", RetryHandler, {**shown, "jobs": p.jobs}),
        url(image + r"/original", OriginalHandler, {**dreams, "files": p.files, "staging": p.staging}),
        url(r"/ws/dream-images(?:/([^/]+)?/?)?", DreamSocket, socket),
        url(r"/media/(.+)", MediaHandler, {"files": p.local}),
        url(r"/healthz", HealthHandler),
        url(r"/readyz", ReadyHandler, {"checks": p.checks}),
        url(r"/metrics", MetricsHandler, {**api, "token": config.server.metrics_token, "meters": p.meters}),
        url(r"/openapi\.json", ContractHandler, {"contract": openapi}),
        url(r"/asyncapi\.json", ContractHandler, {"contract": asyncapi}),
        url(r"/(|docs|sw\.js|manifest\.webmanifest|robots\.txt|web/.+)", PageHandler, page),
    ]
