"""The take reader: what is not taken is reported, with its place."""

from enum import IntEnum

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate.take import Report, Take, unknown_field_paths
from tests.support.field_samples import new


class LbPolicy(IntEnum):
    ROUND_ROBIN = 0


def cluster() -> Take:
    message = new("envoy.config.cluster.v3.Cluster")
    message.name = "c"
    message.lb_policy = 2
    message.connect_timeout.seconds = 3
    message.connect_timeout.nanos = 500_000_000
    message.circuit_breakers.thresholds.add().max_connections.value = 5
    message.circuit_breakers.thresholds.add().track_remaining = True
    return Take(message, Report())


def test_what_is_left_is_reported_with_its_path() -> None:
    take = cluster()
    take.text("name")
    breakers = take.child("circuit_breakers")
    assert breakers is not None
    first, second = breakers.children("thresholds")
    first.wrapped_integer("max_connections")
    take.report.finish()
    assert take.report.unread == [
        "connect_timeout",
        "lb_policy",
        "circuit_breakers.thresholds[1].track_remaining",
    ]
    assert second.path("x") == "circuit_breakers.thresholds[1].x"


def test_a_message_that_nobody_opened_is_one_line() -> None:
    take = cluster()
    for name in ("name", "lb_policy", "connect_timeout"):
        take.skip(name)
    take.report.finish()
    assert take.report.unread == ["circuit_breakers"]


def test_absent_fields_read_as_their_defaults() -> None:
    take = Take(new("envoy.config.cluster.v3.Cluster"), Report())
    assert (take.text("name"), take.integer("lb_policy"), take.flag("respect_dns_ttl")) == ("", 0, False)
    assert take.duration("connect_timeout") is None
    assert take.child("circuit_breakers") is None
    assert take.children("filters") == []
    assert take.wrapped_flag("wait_for_warm_on_init") is None


def test_durations_are_seconds() -> None:
    assert cluster().duration("connect_timeout") == 3.5


def test_an_ignored_field_says_why() -> None:
    take = cluster()
    take.ignore("lb_policy", "not today")
    assert take.report.unread == ["lb_policy (not today)"]


def test_an_enum_value_that_is_not_supported_is_refused_by_name() -> None:
    with pytest.raises(ConfigError) as caught:
        cluster().enum("lb_policy", LbPolicy)
    assert (caught.value.path, caught.value.reason) == ("lb_policy", "RING_HASH is not supported")


def test_a_part_is_merged_into_its_place() -> None:
    part = Report()
    Take(cluster().message, part)
    part.warnings.append(": odd")
    part.finish()
    whole = Report()
    whole.merge(part, "clusters[3]")
    assert "clusters[3].lb_policy" in whole.unread
    assert whole.warnings == ["clusters[3]: odd"]


def test_fields_newer_than_our_protos_are_found_and_dropped() -> None:
    message = new("envoy.config.cluster.v3.Cluster")
    message.name = "c"
    inner = new("envoy.config.core.v3.SocketAddress")
    inner.address = "1.2.3.4"
    message.upstream_bind_config.source_address.CopyFrom(inner)
    raw = message.SerializeToString() + b"\xfa\x7f\x01z"  # field 2047
    message.upstream_bind_config.source_address.MergeFromString(b"\xf8\x7f\x05")  # field 2047, varint
    raw = message.SerializeToString() + b"\xca\x3e\x01z"  # field 1001
    decoded = type(message).FromString(raw)
    assert unknown_field_paths(decoded, raw) == ["1001", "upstream_bind_config.source_address.2047"]
    assert unknown_field_paths(decoded, decoded.SerializeToString()) == []
