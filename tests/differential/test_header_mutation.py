"""Headers that routes, virtual hosts and route tables add, append to, overwrite and remove."""

import pytest

from tests.differential.bed import Bed, cluster, config, http_listener, vhost
from tests.differential.pair import case
from tests.differential.world import World
from tests.support.upstream import Upstream, respond

ACTIONS = vhost(
    "actions",
    ["actions"],
    """
    - match: {path: /append}
      route: {cluster: a}
      request_headers_to_add: [{header: {key: x-h, value: new}, append_action: APPEND_IF_EXISTS_OR_ADD}]
      response_headers_to_add: [{header: {key: x-r, value: new}, append_action: APPEND_IF_EXISTS_OR_ADD}]
    - match: {path: /absent}
      route: {cluster: a}
      request_headers_to_add: [{header: {key: x-h, value: new}, append_action: ADD_IF_ABSENT}]
      response_headers_to_add: [{header: {key: x-r, value: new}, append_action: ADD_IF_ABSENT}]
    - match: {path: /overwrite}
      route: {cluster: a}
      request_headers_to_add: [{header: {key: x-h, value: new}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
      response_headers_to_add: [{header: {key: x-r, value: new}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
    - match: {path: /overwrite-existing}
      route: {cluster: a}
      request_headers_to_add: [{header: {key: x-h, value: new}, append_action: OVERWRITE_IF_EXISTS}]
      response_headers_to_add: [{header: {key: x-r, value: new}, append_action: OVERWRITE_IF_EXISTS}]
    - match: {path: /old-append}
      route: {cluster: a}
      request_headers_to_add: [{header: {key: x-h, value: new}, append: false}]
    - match: {path: /default}
      route: {cluster: a}
      request_headers_to_add: [{header: {key: x-h, value: new}}]
    - match: {path: /remove}
      route: {cluster: a}
      request_headers_to_remove: [x-h, X-I]
      response_headers_to_remove: [x-r]
    - match: {path: /remove-then-add}
      route: {cluster: a}
      request_headers_to_add: [{header: {key: x-h, value: new}}]
      request_headers_to_remove: [x-h]
    - match: {path: /empty}
      route: {cluster: a}
      request_headers_to_add:
      - {header: {key: x-dropped, value: "%REQ(x-not-there)%"}}
      - {header: {key: x-kept, value: "%REQ(x-not-there)%"}, keep_empty_value: true}
    - match: {path: /two}
      route: {cluster: a}
      request_headers_to_add:
      - {header: {key: x-h, value: first}}
      - {header: {key: x-h, value: second}}
    - match: {path: /mixed-case}
      route: {cluster: a}
      request_headers_to_add: [{header: {key: X-Mixed-Case, value: Kept-Value}}]
    """,
)

FORMATTERS = vhost(
    "formatters",
    ["formatters"],
    """
    - name: formatted
      match: {prefix: /request}
      route: {cluster: a, prefix_rewrite: /rewritten}
      metadata: {filter_metadata: {ns: {key: {deep: value}}}}
      request_headers_to_add:
      - {header: {key: x-method, value: "%REQ(:METHOD)%"}}
      - {header: {key: x-path, value: "%REQ(:PATH)%"}}
      - {header: {key: x-original, value: "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"}}
      - {header: {key: x-agent-4, value: "%REQ(USER-AGENT):4%"}}
      - {header: {key: x-host, value: "%REQ(:AUTHORITY)%"}}
      - {header: {key: x-protocol, value: "%PROTOCOL%"}}
      - {header: {key: x-client, value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}}
      - {header: {key: x-direct-client, value: "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"}}
      - {header: {key: x-local, value: "%DOWNSTREAM_LOCAL_ADDRESS%"}}
      - {header: {key: x-local-without-port, value: "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%"}}
      - {header: {key: x-route, value: "%ROUTE_NAME%"}}
      - {header: {key: x-cluster, value: "%UPSTREAM_CLUSTER%"}}
      - {header: {key: x-percent, value: "100%%"}}
      - {header: {key: x-mixed, value: "[%REQ(x-one)%|%REQ(x-none)%]"}}
      - {header: {key: x-alternative, value: "%REQ(x-none?x-one)%"}}
    - match: {prefix: /response}
      route: {cluster: a}
      response_headers_to_add:
      - {header: {key: x-code, value: "%RESPONSE_CODE%"}}
      - {header: {key: x-flags, value: "%RESPONSE_FLAGS%"}}
      - {header: {key: x-details, value: "%RESPONSE_CODE_DETAILS%"}}
      - {header: {key: x-upstream-host, value: "%UPSTREAM_HOST%"}}
      - {header: {key: x-upstream-address, value: "%UPSTREAM_REMOTE_ADDRESS%"}}
      - {header: {key: x-upstream-cluster, value: "%UPSTREAM_CLUSTER%"}}
      - {header: {key: x-from-response, value: "%RESP(x-upstream)%"}}
      - {header: {key: x-from-request, value: "%REQ(x-one)%"}}
      - {header: {key: x-hostname-set, value: "%HOSTNAME%"}}
    """,
)

LEVELS = vhost(
    "levels",
    ["levels"],
    config("""
    - {match: {path: /direct}, direct_response: {status: 403}}
    - match: {path: /overwrite}
      route:
        weighted_clusters:
          clusters:
          - name: a
            weight: 1
            request_headers_to_add: [{header: {key: x-h, value: cluster}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
            response_headers_to_add: [{header: {key: x-r, value: cluster}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
      request_headers_to_add: [{header: {key: x-h, value: route}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
      response_headers_to_add: [{header: {key: x-r, value: route}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
    - match: {path: /append}
      route:
        weighted_clusters:
          clusters:
          - name: a
            weight: 1
            request_headers_to_add: [{header: {key: x-a, value: cluster}}]
            response_headers_to_add: [{header: {key: x-ra, value: cluster}}]
            request_headers_to_remove: [x-gone]
            response_headers_to_remove: [x-r-gone]
      request_headers_to_add: [{header: {key: x-a, value: route}}]
      response_headers_to_add: [{header: {key: x-ra, value: route}}]
    """),
    request_headers_to_add=config(
        "[{header: {key: x-h, value: vhost}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}, {header: {key: x-a, value: vhost}}]"
    ),
    response_headers_to_add=config(
        "[{header: {key: x-r, value: vhost}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}, {header: {key: x-ra, value: vhost}}]"
    ),
    request_headers_to_remove=["x-vhost-gone"],
    response_headers_to_remove=["x-vhost-r-gone"],
)

GLOBAL = config("""
    request_headers_to_add:
    - {header: {key: x-h, value: table}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}
    - {header: {key: x-a, value: table}}
    response_headers_to_add:
    - {header: {key: x-r, value: table}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}
    - {header: {key: x-ra, value: table}}
    request_headers_to_remove: [x-table-gone]
    response_headers_to_remove: [x-table-r-gone]
""")

BED = Bed(
    listeners=[
        http_listener("http", ACTIONS, FORMATTERS),
        http_listener("levels", LEVELS, routes=GLOBAL),
        http_listener("specific", LEVELS, routes={**GLOBAL, "most_specific_header_mutations_wins": True}),
    ],
    clusters=[cluster("a")],
    upstreams={"a": Upstream},
)


@case("Custom request headers: append_action on a header that is there, and one that is not")
@pytest.mark.parametrize(
    ("path", "with_old", "without_old"),
    [
        ("/append", ["old", "new"], ["new"]),
        ("/absent", ["old"], ["new"]),
        ("/overwrite", ["new"], ["new"]),
        ("/overwrite-existing", ["new"], []),
        ("/old-append", ["new"], ["new"]),
        ("/default", ["old", "new"], ["new"]),
        ("/remove-then-add", ["new"], ["new"]),
    ],
)
def test_request_header_actions(proxy: World, path: str, with_old: list[str], without_old: list[str]) -> None:
    assert proxy.get(path, {"x-h": "old"}, host="actions").seen.all("x-h") == with_old
    assert proxy.get(path, host="actions").seen.all("x-h") == without_old


@case("Custom response headers: append_action on a header that is there, and one that is not")
@pytest.mark.parametrize(
    ("path", "with_old", "without_old"),
    [
        ("/append", ["old", "new"], ["new"]),
        ("/absent", ["old"], ["new"]),
        ("/overwrite", ["new"], ["new"]),
        ("/overwrite-existing", ["new"], []),
    ],
)
def test_response_header_actions(proxy: World, path: str, with_old: list[str], without_old: list[str]) -> None:
    proxy.upstream("a").script(respond(headers=[("x-r", "old")]))
    assert proxy.get(path, host="actions").all("x-r") == with_old
    assert proxy.get(path, host="actions").all("x-r") == without_old


@case("Custom headers: overwriting replaces every value")
def test_overwriting_replaces_all_values(proxy: World) -> None:
    reply = proxy.get("/overwrite", [("x-h", "one"), ("x-h", "two")], host="actions")
    assert reply.seen.all("x-h") == ["new"]


@case("Custom headers: removal, whatever the case and however often it is there")
def test_headers_are_removed(proxy: World) -> None:
    proxy.upstream("a").script(respond(headers=[("X-R", "1"), ("x-r", "2"), ("x-stays", "3")]))
    reply = proxy.get("/remove", [("X-H", "1"), ("x-h", "2"), ("x-i", "3"), ("x-stays", "4")], host="actions")
    assert (reply.seen.all("x-h"), reply.seen.all("x-i"), reply.seen.all("x-stays")) == ([], [], ["4"])
    assert (reply.all("x-r"), reply.all("x-stays")) == ([], ["3"])


@case("Custom headers: an empty value is dropped unless keep_empty_value")
def test_empty_values_are_dropped_unless_kept(proxy: World) -> None:
    seen = proxy.get("/empty", host="actions").seen
    assert (seen.get("x-dropped"), seen.get("x-kept")) == (None, "")


@case("Custom headers: two entries of one name both count, in order")
def test_two_entries_of_one_name(proxy: World) -> None:
    assert proxy.get("/two", host="actions").seen.all("x-h") == ["first", "second"]


@case("Custom headers: names are lower-cased, values are not")
def test_names_are_lower_cased(proxy: World) -> None:
    assert ("x-mixed-case", "Kept-Value") in proxy.get("/mixed-case", host="actions").seen.headers


@case("Custom headers: command operators in request headers")
def test_request_formatters(proxy: World) -> None:
    seen = proxy.get("/request?q=1", {"user-agent": "agent/1", "x-one": "1"}, host="formatters").seen
    assert seen.get("x-method") == "GET"
    assert seen.get("x-original") == "/request?q=1"
    # Headers are evaluated before the path is rewritten.
    assert (seen.path, seen.get("x-path")) == ("/rewritten?q=1", "/request?q=1")
    assert seen.get("x-agent-4") == "agen"
    assert seen.get("x-host") == "formatters"
    assert seen.get("x-protocol") == "HTTP/1.1"
    assert seen.get("x-client") == "127.0.0.1"
    assert seen.get("x-local") == f"127.0.0.1:{proxy.listener_port('http')}"
    assert seen.get("x-route") == "formatted"
    assert seen.get("x-cluster") == "a"
    assert seen.get("x-percent") == "100%"
    assert seen.get("x-mixed") == "[1|]"
    assert seen.get("x-alternative") == "1"


@case("Custom headers: command operators in response headers")
def test_response_formatters(proxy: World) -> None:
    reply = proxy.get("/response", {"x-one": "1"}, host="formatters")
    assert (reply.get("x-code"), reply.get("x-flags"), reply.get("x-details")) == ("200", "-", "via_upstream")
    assert reply.get("x-upstream-host") == f"127.0.0.1:{proxy.port('a')}"
    assert (reply.get("x-upstream-cluster"), reply.get("x-from-response")) == ("a", "a")
    assert reply.get("x-from-request") == "1"


@case("Custom headers: weighted cluster, then route, then virtual host, then route table")
def test_the_least_specific_level_is_applied_last(proxy: World) -> None:
    reply = proxy.get("/overwrite", host="levels", listener="levels")
    assert (reply.seen.all("x-h"), reply.all("x-r")) == (["table"], ["table"])
    reply = proxy.get("/append", host="levels", listener="levels")
    order = ["cluster", "route", "vhost", "table"]
    assert (reply.seen.all("x-a"), reply.all("x-ra")) == (order, order)


@case("Custom headers: most_specific_header_mutations_wins turns the order round, but for the weighted cluster")
def test_the_route_is_applied_last_where_asked(proxy: World) -> None:
    reply = proxy.get("/overwrite", host="levels", listener="specific")
    assert (reply.seen.all("x-h"), reply.all("x-r")) == (["route"], ["route"])
    reply = proxy.get("/append", host="levels", listener="specific")
    order = ["cluster", "table", "vhost", "route"]
    assert (reply.seen.all("x-a"), reply.all("x-ra")) == (order, order)


@case("Custom headers: each level removes its own")
def test_every_level_removes_headers(proxy: World) -> None:
    names = ["x-gone", "x-vhost-gone", "x-table-gone", "x-stays"]
    answer_names = ["x-r-gone", "x-vhost-r-gone", "x-table-r-gone", "x-stays"]
    proxy.upstream("a").script(respond(headers=[(name, "1") for name in answer_names]))
    reply = proxy.get("/append", {name: "1" for name in names}, host="levels", listener="levels")
    assert [name for name in names if reply.seen.get(name)] == ["x-stays"]
    assert [name for name in answer_names if reply.get(name)] == ["x-stays"]


@case("Custom headers: local replies carry those of the route's levels, and without a route none")
def test_local_replies_carry_the_levels_headers(proxy: World) -> None:
    reply = proxy.get("/direct", host="levels", listener="levels")
    assert (reply.status, reply.all("x-r"), reply.all("x-ra")) == (403, ["table"], ["vhost", "table"])
    reply = proxy.get("/nothing-here", host="levels", listener="levels")
    assert (reply.status, reply.all("x-r"), reply.all("x-ra")) == (404, [], [])
