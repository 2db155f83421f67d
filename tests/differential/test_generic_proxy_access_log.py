"""Access logs of generic_proxy as operators read them: its own operators, as text and as JSON."""

import json

import pytest

from tests.differential.bed import FILE_LOG, Bed, Config, cluster
from tests.differential.pair import case
from tests.differential.rpc_bed import generic_listener, to, tree
from tests.differential.rpc_link import DubboLink, dubbo_upstream
from tests.differential.test_access_log import lines_of
from tests.differential.world import World
from tests.support import hessian
from tests.support.dubbo_peer import (
    VALUE_ATTACHED,
    DubboUpstream,
    answer,
    heartbeat,
    request,
    result,
)
from tests.support.proxies import ProxyKind

OPERATORS = {
    "method": "%METHOD%",
    "host": "%HOST%",
    "path": "%PATH%",
    "protocol": "%PROTOCOL%",
    "code": "%GENERIC_RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "tag": "%REQUEST_PROPERTY(x-case)%",
    "group": "%REQUEST_PROPERTY(group)%",
    "version": "%REQUEST_PROPERTY(version)%",
    "none": "%REQUEST_PROPERTY%",
    "absent": "%REQUEST_PROPERTY(absent)%",
    "answer": "%RESPONSE_PROPERTY(absent)%",
    "mixed": "<%METHOD% of %HOST%>",
    "argument": "%METHOD(whatever)%",
    "cluster": "%UPSTREAM_CLUSTER%",
}


def log(name: str, form: Config) -> Config:
    body = {"@type": FILE_LOG, "path": f"${{log}}/{name}.txt", "log_format": form}
    return {"name": "envoy.access_loggers.file", "typed_config": body}


ROUTES = tree("Service", {"shop.Cart": to("a"), "shop.Named": to("a", name="named"), "shop.Gone": to("gone")})
TEXT = "|".join(f"{name}={operator}" for name, operator in OPERATORS.items()) + "\n"
BED = Bed(
    listeners=[
        generic_listener("text", ROUTES, access_log=[log("text", {"text_format_source": {"inline_string": TEXT}})]),
        generic_listener(
            "json",
            ROUTES,
            access_log=[log("json", {"json_format": OPERATORS | {"nested": {"code": "<%GENERIC_RESPONSE_CODE%>"}}})],
        ),
        generic_listener(
            "more",
            ROUTES,
            access_log=[
                log("more", {"text_format_source": {"inline_string": "%RESPONSE_PROPERTY(from)% %ROUTE_NAME%\n"}})
            ],
        ),
        generic_listener(
            "short", ROUTES, access_log=[log("short", {"json_format": OPERATORS, "omit_empty_values": True})]
        ),
    ],
    clusters=[cluster("a"), {**cluster("gone"), "load_assignment": {"cluster_name": "gone", "endpoints": []}}],
    upstreams={"a": DubboUpstream},
)
SERVICES = ["shop.Cart", "shop.Gone", "shop.Nobody"]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("name", ["text", "json", "short"])
@case("generic_proxy: operators of requests with and without a route")
def test_operators(proxy: World, name: str, service: str) -> None:
    with DubboLink(proxy, name) as link:
        link.call(service, "get", (), {"x-case": "1", "group": "g"}, version="1.2")
    note_line(proxy, name)


@case("generic_proxy: the attachments of an answer, and its route", difference="rpc-log-properties")
def test_answers(proxy: World) -> None:
    dubbo_upstream(proxy).script(answer(body=result(VALUE_ATTACHED, hessian.text("x"), {"from": "a"})))
    with DubboLink(proxy, "more") as link:
        link.call("shop.Named", "get")
    (line,) = lines_of(proxy, "more", 1)
    assert line == ("- -" if proxy.kind is ProxyKind.ENVOY else "a named")


@case("generic_proxy: operators of a request without an answer")
def test_oneway(proxy: World) -> None:
    with DubboLink(proxy, "json") as link:
        link.send(request(1, "shop.Cart", "put", one_way=True))
        link.send(heartbeat(2))
        link.read()
    assert dubbo_upstream(proxy).wait_frames(1)
    note_line(proxy, "json")


def note_line(world: World, name: str) -> None:
    """The scenario's only line, into the journal."""
    line = lines_of(world, name, 1)[0]
    world.note("line", json.loads(line) if name != "text" else line)
