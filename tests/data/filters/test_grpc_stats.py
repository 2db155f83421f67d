"""grpc_stats: which calls count, under which names, and how messages are found in a body."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosn_xds.base.stats import StatGroup, StatRegistry
from mosn_xds.data.codec.head import RequestHead, ResponseHead, Version
from mosn_xds.data.filters.grpc_stats import GrpcStatsFilter, MessageCounter
from mosn_xds.spec import filters as spec

MESSAGE = b"\x00\x00\x00\x00\x02hi"


def play(config, path=b"/shop.Orders/Get", kind=b"application/grpc", trailers=None, head_fields=(), status=200):
    stats = StatGroup("cluster.c.")
    found = GrpcStatsFilter(config, StatRegistry())
    request = RequestHead(b"POST", b"http", b"a", path, Version.HTTP2, [(b"content-type", kind)])
    stream = SimpleNamespace(
        request=request, cluster=SimpleNamespace(name="c", stats=stats), grpc_call=None, response_trailers=trailers,
        last_up_tx=0.1, last_up_rx=0.2,
    )  # fmt: skip
    found.on_request(stream, False)
    found.on_request_data(stream, MESSAGE, True)
    found.on_response(stream, ResponseHead(status, [(b"content-type", b"application/grpc"), *head_fields]), False)
    found.on_response_data(stream, MESSAGE + MESSAGE, False)
    found.on_complete(stream)
    return stats.extra


def test_a_call_counts_its_messages_and_its_status():
    assert play(spec.GrpcStatsFilter(), trailers=[(b"grpc-status", b"0")]) == {
        "grpc.0": 1, "grpc.success": 1, "grpc.total": 1, "grpc.request_message_count": 1, "grpc.response_message_count": 2,
    }  # fmt: skip


def test_a_status_in_the_head_counts_too():
    counted = play(spec.GrpcStatsFilter(), head_fields=[(b"grpc-status", b"14")])
    assert (counted["grpc.14"], counted["grpc.failure"], counted["grpc.total"]) == (1, 1, 1)


def test_a_call_that_ends_without_a_status_is_neither_success_nor_failure():
    assert "grpc.total" not in play(spec.GrpcStatsFilter())


def test_the_body_of_an_answer_that_is_not_grpc_has_no_messages():
    assert "grpc.response_message_count" not in play(spec.GrpcStatsFilter(), status=503)


@pytest.mark.parametrize(
    ("config", "prefix"),
    [
        (spec.GrpcStatsFilter(stats_for_all_methods=True), "grpc.shop.Orders.Get."),
        (spec.GrpcStatsFilter(stats_for_all_methods=True, replace_dots=True), "grpc.shop_Orders.Get."),
        (spec.GrpcStatsFilter(methods=(("shop.Orders", ("Put", "Get")),)), "grpc.shop.Orders.Get."),
        (spec.GrpcStatsFilter(methods=(("shop.Orders", ("Put",)),)), "grpc."),
    ],
)
def test_names_are_of_methods_where_that_is_asked_for(config, prefix):
    assert set(play(config)) == {f"{prefix}request_message_count", f"{prefix}response_message_count"}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (b"/shop.Orders", b"application/grpc"),
        (b"/shop.Orders/Get/more", b"application/grpc"),
        (b"/shop.Orders/Get", b"application/grpc-web"),
        (b"/shop.Orders/Get", b"application/json"),
    ],
)
def test_what_is_no_call_does_not_count(path, kind):
    assert play(spec.GrpcStatsFilter(), path, kind, trailers=[(b"grpc-status", b"0")]) == {}


@given(st.lists(st.binary(max_size=20), max_size=6), st.data())
def test_messages_are_counted_however_the_body_is_cut(messages, data):
    body = b"".join(b"\x00" + len(message).to_bytes(4, "big") + message for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=5)))
    counter = MessageCounter()
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert sum(counter.see(piece) for piece in pieces) == counter.total == len(messages)


def test_a_message_counts_when_it_begins():
    counter = MessageCounter()
    assert [counter.see(piece) for piece in (b"\x00", b"\x00\x00\x00\x01", b"x", b"", b"\x00")] == [1, 0, 0, 0, 1]
