"""Mutants for test_upgrades.py."""

from tests.mutation.mutant import Fixed, Ignored, Returns, Swap, mutant

CANARY = "test_upgrade_without_connection"

_PARTICULAR = "data.codec.http1.request_head:particular_head"
_RESPONSE = "data.proxy.router:Router.on_response_head"

MUTANTS = [
    mutant(
        "upgrade_configs have no effect",
        Ignored("spec.listener:HttpConnectionManager.upgrades"),
        "test_a_websocket",
        "test_the_upgrade_type_ignores_case",
        "test_an_upstream_that_does_not_switch",
        "test_a_tunnel_ends_with_its_client",
        "test_a_tunnel_ends_with_its_upstream",
    ),
    mutant(
        "upgrade_configs of a route have no effect",
        Ignored("spec.route:RouteAction.upgrades"),
        "test_a_websocket",
        "test_a_websocket_is_refused",
    ),
    mutant(
        "upgrade types are told by their case",
        Swap(_PARTICULAR, "(hop.upgrade or b'').lower()", "hop.upgrade or b''"),
        "test_the_upgrade_type_ignores_case",
    ),
    mutant(
        "every upgrade is granted",
        Returns("data.proxy.http_stream:HttpStream._upgrade_allowed", "True"),
        "test_a_websocket_is_refused",
        "test_bytes_behind_a_refused_upgrade",
    ),
    mutant(
        "an upstream that does not switch is one that answers",
        Swap(_RESPONSE, "self.head.upgrade is not None", "False"),
        "test_an_upstream_that_does_not_switch",
        "test_a_websocket",
    ),
    mutant(
        "an upgrade needs no connection token",
        Swap(_PARTICULAR, "parser.should_upgrade()", "hop.upgrade is not None"),
        "test_upgrade_without_connection",
        spares="test_a_websocket",
    ),
    mutant(
        "upstreams may switch when they like",
        Swap(
            "data.codec.http1.client:Http1ClientCodec._particular_head",
            "not self._upgrade_asked or {name for name, _ in hop} != _UPGRADE_FIELDS",
            "False",
        ),
        "test_an_unasked_switch",
    ),
    mutant(
        "a client that leaves has no flag",
        Fixed("data.proxy.stream:_DC", "0"),
        "test_a_tunnel_ends_with_its_client",
    ),
    mutant(
        "a tunnel does not end with its upstream",
        Returns("data.proxy.router:Router.on_reset"),
        "test_a_tunnel_ends_with_its_upstream",
    ),
    mutant(
        "the route's timeout cuts tunnels",
        (
            Swap(
                "data.proxy.router:Router.start",
                "if end: self._request_complete(stream)",
                "self._request_complete(stream)",
            ),
            Swap(_RESPONSE, "stream.route_deadline = NEVER", "pass"),
        ),
        "test_the_route_timeout_does_not_cut_a_tunnel",
    ),
    mutant(
        "idle_timeout has no effect",
        Ignored("spec.route:RouteAction.idle_timeout_s"),
        "test_the_idle_timeout_cuts_a_tunnel",
    ),
    mutant(
        "CONNECT has the path of the root",
        Swap("data.match.routes:VirtualHost.match", "path = self._path(head)", "path = self._path(head) or b'/'"),
        "test_connect_is_refused",
    ),
]
