"""gRPC, as far as a proxy minds: time-outs, own answers, retries, statistics.

Clients speak HTTP/1 here, so that a case says exactly what is on the wire; real ones are in tests/e2e/test_grpc.py.
"""

import time

import pytest

from tests.differential.bed import Bed, cluster, extension, http_listener, vhost
from tests.differential.pair import case
from tests.differential.test_http2_upstream import HTTP2, http2
from tests.differential.world import World
from tests.support.http2_upstream import Http2Exchange, Http2Upstream, answer, hang, refuse, trailers_only

ROUTES = vhost(
    "all",
    ["*"],
    """
    - match: {prefix: /only, grpc: {}}
      route: {cluster: a}
    - match: {prefix: /old}
      route: {cluster: a, timeout: 9s, max_grpc_timeout: 3s}
    - match: {prefix: /istio}
      route: {cluster: a, timeout: 0s, max_grpc_timeout: 0s}
    - match: {prefix: /offset}
      route: {cluster: a, timeout: 9s, max_grpc_timeout: 3s, grpc_timeout_offset: 0.5s}
    - match: {prefix: /per-try}
      route: {cluster: a, max_grpc_timeout: 3s, retry_policy: {retry_on: unavailable, per_try_timeout: 0.25s}}
    - match: {prefix: /new}
      route: {cluster: a, timeout: 9s, max_stream_duration: {grpc_timeout_header_max: 3s}}
    - match: {prefix: /newer}
      route:
        cluster: a
        timeout: 9s
        max_stream_duration:
          {max_stream_duration: 4s, grpc_timeout_header_max: 3s, grpc_timeout_header_offset: 0.5s}
    - match: {prefix: /off}
      route: {cluster: a, timeout: 9s, max_stream_duration: {max_stream_duration: 0s, grpc_timeout_header_max: 0s}}
    - match: {prefix: /direct}
      direct_response: {status: 403, body: {inline_string: "no % and \\x07 for you"}}
    - match: {prefix: /nowhere}
      route: {cluster: none}
    - match: {prefix: /short}
      route: {cluster: a, timeout: 0.2s}
    - match: {prefix: /cancelled}
      route: {cluster: a, retry_policy: {retry_on: cancelled}}
    - match: {prefix: /deadline-exceeded}
      route: {cluster: a, retry_policy: {retry_on: deadline-exceeded}}
    - match: {prefix: /internal}
      route: {cluster: a, retry_policy: {retry_on: internal}}
    - match: {prefix: /resource-exhausted}
      route: {cluster: a, retry_policy: {retry_on: resource-exhausted}}
    - match: {prefix: /unavailable}
      route: {cluster: a, retry_policy: {retry_on: unavailable, num_retries: 2}}
    - match: {prefix: /judged}
      route: {cluster_header: x-judged}
    - match: {prefix: /shop.}
      route: {cluster: counted}
    - match: {prefix: /}
      route: {cluster: a}
    """,
)

JUDGED = [f"judged-{number}" for number in range(15)]
"""Clusters of one and the same host: figures come once a second, and so those of many requests come at once."""

_GRPC_STATS = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"


def grpc_stats(**fields: object) -> dict[str, object]:
    return extension("envoy.filters.http.grpc_stats", _GRPC_STATS, **fields)


BED = Bed(
    listeners=[
        http_listener("http", ROUTES, routes={"validate_clusters": False}),
        http_listener(
            "inside",
            ROUTES,
            routes={"validate_clusters": False},
            use_remote_address=True,
            internal_address_config={"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]},
        ),
        http_listener(
            "each",
            ROUTES,
            routes={"validate_clusters": False},
            filters=[grpc_stats(stats_for_all_methods=True, enable_upstream_stats=True)],
        ),
        http_listener("sum", ROUTES, routes={"validate_clusters": False}, filters=[grpc_stats(emit_filter_state=True)]),
        http_listener(
            "some",
            ROUTES,
            routes={"validate_clusters": False},
            filters=[
                grpc_stats(
                    individual_method_stats_allowlist={"services": [{"name": "shop.Some", "method_names": ["Get"]}]}
                )
            ],
        ),
    ],
    clusters=[
        cluster("a", http=HTTP2),
        cluster("counted", http=HTTP2),
        *(cluster(name, "judged", http=HTTP2) for name in JUDGED),
    ],
    upstreams={"a": Http2Upstream, "counted": Http2Upstream, "judged": Http2Upstream},
)

CALL = {"content-type": "application/grpc", "te": "trailers"}
MESSAGE = b"\x00\x00\x00\x00\x02hi"
OK = answer(200, MESSAGE, [("content-type", "application/grpc")], trailers=[("grpc-status", "0")])


@case("gRPC: grpc-timeout and what the upstream hears of it")
@pytest.mark.parametrize("path", ["/old", "/istio", "/offset", "/per-try", "/new", "/newer", "/off", "/"])
@pytest.mark.parametrize("asked", [None, "1S", "700m", "100S", "2M", "1H", "250000u", "300m", "x", "123456789S"])
def test_grpc_timeout(proxy: World, path: str, asked: str | None) -> None:
    http2(proxy).script(OK)
    reply = proxy.request("POST", path, CALL if asked is None else {**CALL, "grpc-timeout": asked}, MESSAGE)
    if reply.status == 200 and reply.get("grpc-status") is None:
        proxy.note("heard", (reply.seen.get("grpc-timeout"), reply.seen.get("x-envoy-expected-rq-timeout-ms")))


@case(
    "gRPC: a time-out is answered in gRPC's way",
    normalise=lambda journal: [line for line in journal if "saw" not in line],
)
@pytest.mark.parametrize("path", ["/old", "/istio", "/per-try", "/new", "/off", "/short"])
def test_grpc_timeout_over(proxy: World, path: str) -> None:
    http2(proxy).script(hang(), hang())
    began = time.monotonic()
    reply = proxy.request("POST", path, {**CALL, "grpc-timeout": "300m"}, MESSAGE)
    assert time.monotonic() - began < 2.8  # the least of the routes' own is 3 s
    assert reply.status == 200
    proxy.note("outcome", (reply.get("grpc-status"), reply.get("grpc-message"), reply.log.flags, reply.log.details))


@case("gRPC: grpc-timeout of a request that is not gRPC")
@pytest.mark.parametrize("path", ["/old", "/new"])
def test_grpc_timeout_without_grpc(proxy: World, path: str) -> None:
    http2(proxy).script(answer(delay_s=0.4))
    reply = proxy.request("POST", path, {"grpc-timeout": "200m"}, b"x")
    proxy.note("outcome", (reply.status, reply.log.details))


@case("gRPC: answers of the proxy's own")
@pytest.mark.parametrize("path", ["/direct", "/nowhere", "/only"])
@pytest.mark.parametrize(
    "kind", ["application/grpc", "application/grpc+proto", "application/grpc-web", "application/json"]
)
def test_local_replies(proxy: World, path: str, kind: str) -> None:
    reply = proxy.request("POST", path, {"content-type": kind}, MESSAGE)
    proxy.note("outcome", (reply.status, reply.get("grpc-status"), reply.get("grpc-message")))


@case("gRPC: failures of the upstream")
@pytest.mark.parametrize("code", [2, 7, 8, 1])
def test_resets(proxy: World, code: int) -> None:
    http2(proxy).script(refuse(code))
    reply = proxy.request("POST", "/", CALL, MESSAGE)
    assert (reply.status, reply.get("grpc-status")) == (200, "14")


@case("gRPC: an upstream that answers with an HTTP status")
@pytest.mark.parametrize("status", [400, 404, 429, 503])
def test_http_status(proxy: World, status: int) -> None:
    http2(proxy).script(answer(status, b"oops"))
    reply = proxy.request("POST", "/", CALL, MESSAGE)
    assert reply.status == status


@case("gRPC: retries by status in a trailers-only response")
@pytest.mark.parametrize("policy", ["cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"])
@pytest.mark.parametrize("status", ["1", "4", "8", "13", "14", "2", "0"])
def test_retries(proxy: World, policy: str, status: str) -> None:
    http2(proxy).script(trailers_only(("grpc-status", status)), OK)
    reply = proxy.request("POST", f"/{policy}", CALL, MESSAGE)
    proxy.note("attempts", reply.log.attempts)


@case("gRPC: a status in trailers comes too late for a retry")
def test_no_retry_by_trailers(proxy: World) -> None:
    kind = [("content-type", "application/grpc")]
    http2(proxy).script(answer(200, MESSAGE, kind, trailers=[("grpc-status", "14")]), OK)
    reply = proxy.request("POST", "/unavailable", CALL, MESSAGE)
    assert reply.log.attempts == "1"


@case("gRPC: retries are exhausted")
def test_retries_exhausted(proxy: World) -> None:
    http2(proxy).script(*[trailers_only(("grpc-status", "14"), ("grpc-message", "gone%20away"))] * 3)
    reply = proxy.request("POST", "/unavailable", CALL, MESSAGE)
    assert (reply.status, reply.get("grpc-status"), reply.log.flags, reply.log.attempts) == (200, "14", "URX", "3")


@case("gRPC: a client asks for retries (x-envoy-retry-grpc-on)")
def test_retries_by_header(proxy: World) -> None:
    http2(proxy).script(trailers_only(("grpc-status", "13")), OK)
    headers = {**CALL, "x-envoy-retry-grpc-on": "internal", "x-envoy-max-retries": "3"}
    reply = proxy.request("POST", "/", headers, MESSAGE, listener="inside")
    assert reply.log.attempts == "2"


@case("gRPC statistics: by method, in sum, and for some methods")
@pytest.mark.parametrize("listener", ["each", "sum", "some"])
def test_grpc_stats(proxy: World, listener: str) -> None:
    kind = [("content-type", "application/grpc")]
    upstream = http2(proxy, "counted")
    before = proxy.proxy.stats(r"^cluster\.counted\.(grpc|upstream_rq_total)")
    service = {"each": "/shop.Each", "sum": "/shop.Sum", "some": "/shop.Some"}[listener]
    calls = [
        (f"{service}/Get", MESSAGE * 2, answer(200, MESSAGE * 3, kind, trailers=[("grpc-status", "0")])),
        (f"{service}/Get", MESSAGE, trailers_only(("grpc-status", "14"))),
        (f"{service}/Put", MESSAGE, answer(200, MESSAGE, kind, trailers=[("grpc-status", "77")])),
        (f"{service}/Put", MESSAGE[:3], answer(503)),
        (service, MESSAGE, OK),
        (f"{service}/a/b", MESSAGE, OK),
    ]
    for path, body, step in calls:
        upstream.script(step)
        proxy.request("POST", path, CALL, body, listener=listener)
    name = "cluster.counted.upstream_rq_total"
    proxy.expect_stats({name: before.get(name, 0) + len(calls)})
    after = proxy.proxy.stats(r"^cluster\.counted\.(grpc|upstream_rq_total)")
    changed = {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)}
    proxy.note("figures", sorted(changed.items()))
    assert len(changed) > 3


@case("gRPC: what counts as a success of a host")
def test_host_figures(proxy: World) -> None:
    kind = [("content-type", "application/grpc")]

    def cut(exchange: Http2Exchange) -> None:
        exchange.headers(200, kind)
        exchange.data(MESSAGE)
        exchange.upstream.pause(0.1)
        exchange.reset(2)

    steps = [
        OK,
        *(
            answer(200, MESSAGE, kind, trailers=[("grpc-status", status)])
            for status in ("1", "2", "5", "12", "14", "99")
        ),
        answer(200, MESSAGE, kind),
        trailers_only(("grpc-status", "0")),
        trailers_only(("grpc-status", "13")),
        trailers_only(),
        answer(503, b"x"),
        answer(404, b"x"),
        cut,
        refuse(),
    ]
    http2(proxy, "judged").script(*steps)
    for name, _ in zip(JUDGED, steps, strict=True):
        proxy.request("POST", "/judged", {**CALL, "x-judged": name}, MESSAGE)
    # A host is judged when its answer is whole, which a client can see before the figures are published.
    deadline = time.monotonic() + 10
    while sum(map(sum, (found := host_figures(proxy)).values())) < len(steps):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    proxy.note("successes and errors", sorted(found.items()))
    assert [sum(column) for column in zip(*found.values(), strict=True)] == [4, 11]


def host_figures(proxy: World) -> dict[str, list[int]]:
    """Successes and errors of each cluster's one host."""
    lines = proxy.proxy.admin("/clusters")[1].splitlines()
    return {
        cluster_name: [
            int(line.rsplit("::", 1)[1])
            for figure in ("::rq_success::", "::rq_error::")
            for line in lines
            if line.startswith(f"{cluster_name}::127") and figure in line
        ]
        for cluster_name in JUDGED
    }
