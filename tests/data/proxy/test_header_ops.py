"""Header operations. Orders and results are those that a real Envoy 1.40 shows to clients and upstreams."""

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.data.proxy.header_ops import HeaderEdits, HeaderOperations
from mosn_xds.spec.common import AppendAction, HeaderOps, HeaderValue
from tests.support.heads import environment, info, parsed, request, response

APPEND, ADD_IF_ABSENT, OVERWRITE, OVERWRITE_IF_EXISTS = AppendAction


def value(name: str, text: str, action: AppendAction = APPEND, *, keep_empty: bool = False) -> HeaderValue:
    return HeaderValue(name, parsed(text), action, keep_empty)


def level(tag: str) -> HeaderOps:
    adds = (
        value("l", tag),
        value("ow", tag, OVERWRITE),
        value("ia", tag, ADD_IF_ABSENT),
        value("oe", tag, OVERWRITE_IF_EXISTS),
        value("seen", f"{tag}=%REQ(ow)%|%REQ(l)%"),
    )
    return HeaderOps(request_add=adds, request_remove=(f"rm-{tag}",), response_add=adds[:3], response_remove=("rd",))


def operations(*, most_specific_wins: bool, cluster: HeaderOps | None = None) -> HeaderOperations:
    return HeaderOperations(
        environment(),
        route=level("route"),
        virtual_host=level("vhost"),
        table=level("table"),
        most_specific_wins=most_specific_wins,
        cluster=cluster,
    )


def edited(head, operations: HeaderOperations) -> list[str]:
    operations.edit_request(head, info(head))
    return [f"{name.decode()}: {text.decode()}" for name, text in head.fields]


def test_the_most_specific_level_goes_first_so_that_the_table_overwrites_it():
    head = request("/", ("ow", "orig"), ("ia", "orig"), ("oe", "orig"), ("rm-vhost", "1"), ("keep", "1"))
    assert edited(head, operations(most_specific_wins=False, cluster=level("cluster"))) == [
        "ia: orig",
        "keep: 1",
        "l: cluster",
        "seen: cluster=orig|",
        "l: route",
        "seen: route=cluster|cluster",
        "l: vhost",
        "seen: vhost=route|cluster",
        "ow: table",
        "oe: table",
        "l: table",
        "seen: table=vhost|cluster",
    ]


def test_the_order_can_be_flipped_but_the_weighted_cluster_stays_first():
    head = request("/", ("ow", "orig"))
    assert edited(head, operations(most_specific_wins=True, cluster=level("cluster"))) == [
        "l: cluster",
        "ia: cluster",
        "seen: cluster=orig|",
        "l: table",
        "seen: table=cluster|cluster",
        "l: vhost",
        "seen: vhost=table|cluster",
        "ow: route",
        "l: route",
        "seen: route=vhost|cluster",
    ]


def test_responses_are_edited_in_the_same_order():
    head = response(200, ("rx", "orig"), ("rd", "gone"))
    operations(most_specific_wins=False).edit_response(head, info(request("/")))
    assert head.fields == [
        (b"rx", b"orig"),
        (b"l", b"route"),
        (b"ia", b"route"),
        (b"l", b"vhost"),
        (b"ow", b"table"),
        (b"l", b"table"),
    ]


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        (value("e", ""), None),
        (value("e", "", keep_empty=True), b""),
        (value("e", "%REQ(no)%"), None),
        (value("e", "%REQ(no)%", keep_empty=True), b""),
        (value("e", "a%REQ(no)%b"), b"ab"),
        (value("e", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"), b"10.1.2.3"),
        (value("e", "%RESPONSE_CODE% %DURATION% %UPSTREAM_HOST% %ROUTE_NAME% %PROTOCOL%"), b"0 0   "),
        (value("e", "100%%"), b"100%"),
        (value("e", "%REQ(dup)%"), b"1"),
        (value("e", "%REQ(bin)%"), b"\xff"),
    ],
)
def test_values_are_formatted_and_empty_ones_left_out(added, expected):
    head = request("/", ("dup", "1"), ("dup", "2"), ("bin", "\xff"))
    HeaderEdits((added,), (), environment()).apply(head, info(head, duration_s=0.0))
    assert head.get(added.name.encode()) == expected


def test_names_keep_their_case_for_those_who_tell_it_apart():
    head = request("/")
    HeaderEdits((value("targetApp", "shop"),), (), environment()).apply(head, info(head, duration_s=0.0))
    assert head.fields == [(b"targetApp", b"shop")]


def test_an_empty_value_does_not_overwrite():
    head = request("/", ("e", "had"))
    HeaderEdits((value("e", "%REQ(no)%", OVERWRITE),), (), environment()).apply(head, info(head))
    assert head.get(b"e") == b"had"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("user-agent", [b"one,two"]),
        ("x-forwarded-for", [b"one,two"]),
        ("accept-language", [b"one", b"two"]),
        ("cookie", [b"one", b"two"]),
        ("x-custom", [b"one", b"two"]),
    ],
)
def test_additions_are_joined_to_the_headers_that_envoy_keeps_in_one_piece(name, values):
    head = request("/", (name, "one"))
    ops = HeaderOps(request_add=(value(name, "two"),))
    HeaderOperations(
        environment(), route=ops, virtual_host=HeaderOps(), table=HeaderOps(), most_specific_wins=False
    ).edit_request(head, info(head))
    assert head.get_all(name.encode()) == values


@pytest.mark.parametrize("name", [":path", ":authority", "Host", ":status"])
def test_pseudo_headers_and_host_cannot_be_changed(name):
    with pytest.raises(ConfigError, match="may not be modified"):
        HeaderEdits((value(name, "x"),), (), environment())
    with pytest.raises(ConfigError, match="may not be removed"):
        HeaderEdits((), (name,), environment())


def test_a_value_cannot_smuggle_a_line():
    head = request("/")
    stream = info(head, metadata={"ns": {"key": "a\r\nx: y"}})
    HeaderEdits((value("e", "%DYNAMIC_METADATA(ns:key)%"),), (), environment()).apply(head, stream)
    assert b"\n" not in (head.get(b"e") or b"")
