"""The admin API as a starlette application: which page is where, GET or POST, text or JSON.

Pages that take long (a dump of thousands of resources) are built in a thread, so that the agent's loop goes on; everything
they read is immutable or copied at once. Mutations are POST only, in Envoy's words.
"""

import os
import re
import resource
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mosn_xds import __version__
from mosn_xds.admin import certs_page, clusters_page, stats_pages, xds_page
from mosn_xds.admin.config_dump import ConfigDump
from mosn_xds.admin.proto_json import dump, to_dict
from mosn_xds.admin.tags import TagExtractor
from mosn_xds.admin.view import AgentView
from mosn_xds.base.clock import Clock
from mosn_xds.base.form import installed_form

_Page = Callable[[Request], Awaitable[Response]]

_HELP: tuple[tuple[str, str], ...] = (
    ("/", "Admin home page"),
    ("/certs", "print certs on machine"),
    ("/clusters", "upstream cluster status"),
    ("/config_dump", "dump current configs; ?include_eds ?resource= ?name_regex="),
    ("/drain_listeners", "drain listeners (POST); ?inboundonly ?graceful ?skip_exit"),
    ("/healthcheck/fail", "cause the server to fail health checks (POST)"),
    ("/healthcheck/ok", "cause the server to pass health checks (POST)"),
    ("/help", "print out list of admin commands"),
    ("/hot_restart_version", "print the hot restart compatibility version"),
    ("/init_dump", "dump what is still awaited"),
    ("/listeners", "print listener info"),
    ("/logging", "query/change logging levels (POST); ?level= ?paths= ?LOGGER="),
    ("/memory", "print current allocation/heap usage"),
    ("/quitquitquit", "exit the server (POST)"),
    ("/ready", "print server state, return 200 if LIVE, otherwise return 503"),
    ("/reopen_logs", "reopen access logs (POST)"),
    ("/reset_counters", "reset all counters to zero (POST)"),
    ("/runtime", "print runtime values"),
    ("/server_info", "print server version/status information"),
    ("/stats", "print server stats; ?usedonly ?filter= ?format=json|prometheus ?histogram_buckets="),
    ("/stats/prometheus", "print server stats in prometheus format"),
    ("/xds", "every resource with its verdict and why, streams and workers"),
)


def version_text() -> str:
    """As Envoy's: revision, version, state, build, TLS library. The build says whether the data half is compiled."""
    return f"mosn-xds/{__version__}/Clean/{installed_form().name}/OpenSSL"


class AdminApp:
    """Builds the application over an agent."""

    def __init__(self, agent: AgentView, clock: Clock, tags: TagExtractor) -> None:
        self._agent = agent
        self._clock = clock
        self._tags = tags
        get: Mapping[str, _Page] = {
            "/": self._help,
            "/help": self._help,
            "/certs": self._certs,
            "/clusters": self._clusters,
            "/config_dump": self._config_dump,
            "/hot_restart_version": self._hot_restart_version,
            "/init_dump": self._init_dump,
            "/listeners": self._listeners,
            "/memory": self._memory,
            "/ready": self._ready,
            "/runtime": self._runtime,
            "/server_info": self._server_info,
            "/stats": self._stats,
            "/stats/prometheus": self._prometheus,
            "/xds": self._xds,
        }
        post: Mapping[str, _Page] = {
            "/drain_listeners": self._drain_listeners,
            "/healthcheck/fail": partial(self._health_check, failed=True),
            "/healthcheck/ok": partial(self._health_check, failed=False),
            "/logging": self._logging,
            "/quitquitquit": self._quit,
            "/reopen_logs": self._reopen_logs,
            "/reset_counters": self._reset_counters,
        }
        methods = ["GET", "HEAD", "POST"]
        routes = [Route(path, _guarded(page), methods=methods) for path, page in get.items()]
        routes += [Route(path, _guarded(page, post_only=True), methods=methods) for path, page in post.items()]
        routes.append(Route("/{path:path}", self._unknown, methods=[*methods, "PUT", "DELETE", "PATCH", "OPTIONS"]))
        self.app = Starlette(routes=routes)

    async def _help(self, request: Request) -> Response:
        return PlainTextResponse(_help_text())

    async def _unknown(self, request: Request) -> Response:
        return PlainTextResponse(f"invalid path. {_help_text()}", 404)

    async def _certs(self, request: Request) -> Response:
        return _json(await _in_thread(certs_page.page, list(self._agent.secrets()), self._agent.now))

    async def _clusters(self, request: Request) -> Response:
        pattern = _pattern(request, "filter")
        if request.query_params.get("format") == "json":
            return _json(await _in_thread(clusters_page.as_json, self._agent, pattern))
        return PlainTextResponse(await _in_thread(clusters_page.text, self._agent, pattern))

    async def _config_dump(self, request: Request) -> Response:
        query = request.query_params
        include_eds = "include_eds" in query and query["include_eds"] not in ("off", "false", "0")
        builder = ConfigDump(self._agent)
        wanted = query.get("resource")
        if wanted is not None:
            found = await _in_thread(builder.resource, wanted, include_eds=include_eds)
            if found is None:
                return PlainTextResponse(f"{wanted} not found in config dump", 404)
            return _json({"configs": found} if found else {})
        pattern = _pattern(request, "name_regex")
        return _json(await _in_thread(builder.whole, include_eds=include_eds, name_pattern=pattern))

    async def _hot_restart_version(self, request: Request) -> Response:
        return PlainTextResponse("disabled")

    async def _init_dump(self, request: Request) -> Response:
        waiting = [view.name for view in self._agent.resources() if view.warming or view.status == "requested"]
        dumps = [{"name": "init manager Server", "target_names": waiting}] if waiting else []
        return _json({"unready_targets_dumps": dumps} if dumps else {})

    async def _listeners(self, request: Request) -> Response:
        listeners = list(self._agent.listeners())
        if request.query_params.get("format") == "json":
            statuses = []
            for listener in listeners:
                addresses = [{"socket_address": {"address": a.host, "port_value": a.port}} for a in listener.addresses]
                status: dict[str, Any] = {"name": listener.name, "local_address": addresses[0]}
                if len(addresses) > 1:
                    status["additional_local_addresses"] = addresses[1:]
                statuses.append(status)
            return _json({"listener_statuses": statuses} if statuses else {})
        lines = [f"{one.name}::{address}\n" for one in listeners for address in one.addresses]
        return PlainTextResponse("".join(lines))

    async def _memory(self, request: Request) -> Response:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        resident = resident_bytes()
        return _json({"allocated": str(resident), "heap_size": str(peak), "total_physical_bytes": str(resident)})

    async def _ready(self, request: Request) -> Response:
        state = self._agent.state
        if state == "LIVE":
            return PlainTextResponse("LIVE\n")
        holes = [one for one in self._agent.worker_refusals() if not one.serving]
        why = "".join(f"{one.type_name} {one.name} cannot be built by a worker: {one.reason}\n" for one in holes)
        return PlainTextResponse(f"{state}\n{why}", 503)

    async def _runtime(self, request: Request) -> Response:
        return _json({"layers": [], "entries": {}})

    async def _server_info(self, request: Request) -> Response:
        agent = self._agent
        uptime = f"{int(self._clock.wall() - agent.started_at)}s"
        bootstrap: Any = agent.bootstrap
        info: dict[str, Any] = {
            "version": version_text(),
            "state": agent.state,
            "hot_restart_version": "disabled",
            "command_line_options": dict(agent.command_line),
            "uptime_current_epoch": uptime,
            "uptime_all_epochs": uptime,
            "node": to_dict(bootstrap.node),
        }
        return _json(info)

    async def _stats(self, request: Request) -> Response:
        query = request.query_params
        form = query.get("format", "text")
        is_wanted = stats_pages.wanted(query.get("filter"), "usedonly" in query)
        if form == "prometheus":
            return await self._prometheus(request)
        buckets = stats_pages.buckets_form(query.get("histogram_buckets"))
        if form == "json":
            return _json(stats_pages.as_json(self._agent.totals, is_wanted, buckets), indent=False)
        if form != "text":
            return PlainTextResponse(f"usage: /stats?format=(text|json|prometheus)\n\n{form} is not a format\n", 404)
        return PlainTextResponse(stats_pages.text(self._agent.totals, is_wanted, buckets))

    async def _prometheus(self, request: Request) -> Response:
        query = request.query_params
        is_wanted = stats_pages.wanted(query.get("filter"), "usedonly" in query)
        text = stats_pages.prometheus(self._agent.totals, is_wanted, self._tags)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def _xds(self, request: Request) -> Response:
        return _json(await _in_thread(xds_page.page, self._agent))

    async def _drain_listeners(self, request: Request) -> Response:
        query = request.query_params
        self._agent.drain_listeners(
            inbound_only="inboundonly" in query, graceful="graceful" in query, skip_exit="skip_exit" in query
        )
        await self._agent.obeyed()
        return PlainTextResponse("OK\n")

    async def _health_check(self, request: Request, *, failed: bool) -> Response:
        self._agent.set_health_failed(failed)
        await self._agent.obeyed()
        return PlainTextResponse("OK\n")

    async def _logging(self, request: Request) -> Response:
        try:
            for key, value in request.query_params.items():
                if key == "level":
                    self._agent.set_log_level(None, value)
                elif key == "paths":
                    for entry in value.split(","):
                        logger, _, level = entry.partition(":")
                        self._agent.set_log_level(logger, level)
                else:
                    self._agent.set_log_level(key, value)
        except ValueError as error:
            return PlainTextResponse(
                f"error: {error}\nusage: /logging?<name>=<level> (change single level)\n"
                "usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n"
                "usage: /logging?level=<level> (change all levels)\n",
                400,
            )
        await self._agent.obeyed()
        levels = self._agent.log_levels()
        lines = [f"  {name}: {level}\n" for name, level in sorted(levels.items())]
        return PlainTextResponse("active loggers:\n" + "".join(lines) + "\n")

    async def _quit(self, request: Request) -> Response:
        self._agent.quit()
        return PlainTextResponse("OK\n")

    async def _reopen_logs(self, request: Request) -> Response:
        self._agent.reopen_logs()
        await self._agent.obeyed()
        return PlainTextResponse("OK\n")

    async def _reset_counters(self, request: Request) -> Response:
        self._agent.totals.reset_counters()
        return PlainTextResponse("OK\n")


def _guarded(page: _Page, *, post_only: bool = False) -> _Page:
    async def serve(request: Request) -> Response:
        if post_only and request.method != "POST":
            return PlainTextResponse(
                f"Method {request.method} not allowed, POST required.", 405, headers={"allow": "POST"}
            )
        try:
            response = await page(request)
        except ValueError as error:
            return PlainTextResponse(f"{error}\n", 400)
        response.headers["cache-control"] = "no-cache, max-age=0"
        response.headers["x-content-type-options"] = "nosniff"
        return response

    return serve


def _pattern(request: Request, key: str) -> Any:
    text = request.query_params.get(key)
    if not text:
        return None
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f'Invalid re2 regex: "{error}"') from None


def _json(value: Any, *, indent: bool = True) -> Response:
    body = dump(value) if indent else msgspec.json.encode(value)
    return Response(body, media_type="application/json")


async def _in_thread(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return await trio.to_thread.run_sync(partial(function, *args, **options))


def resident_bytes() -> int:
    """The agent's own resident memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _help_text() -> str:
    lines = "".join(f"  {path}: {text}\n" for path, text in _HELP)
    return f"admin commands are:\n{lines}"
