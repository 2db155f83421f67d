"""Chains from Specs, other people's filters, the harness itself."""

from importlib.metadata import EntryPoint

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.base.limits import LimitProvider
from mosn_xds.base.stats import StatRegistry
from mosn_xds.data.codec.head import ResponseHead
from mosn_xds.data.filters.api import FilterChain, FilterOptions, FilterStream, Reply, StreamFilter
from mosn_xds.data.filters.build import build_filters
from mosn_xds.data.filters.extensions import ExtensionFilters
from mosn_xds.data.filters.harness import FilterHarness, HarnessContext
from mosn_xds.spec import filters as spec
from mosn_xds.spec.common import StringMatch, StringMatchKind


class Worker:
    def __init__(self) -> None:
        self.stats = StatRegistry()
        self.limits = LimitProvider()
        self.extension_filters = ExtensionFilters()


class NeedToken(StreamFilter):
    class Options(FilterOptions, frozen=True):
        header: str

    def on_request(self, stream: FilterStream, end: bool) -> Reply | None:
        if stream.request.get(self.options.header.encode()) is None:
            self.context.count("no_token")
            return Reply(401, b"who are you?", details="no_token")
        return None


class Slow(StreamFilter):
    async def on_request(self, stream: FilterStream, end: bool) -> Reply | None:  # type: ignore[override]
        return None if stream.request.path == b"/ok" else Reply(403)


class Shout(StreamFilter):
    def on_request_data(self, stream: FilterStream, data: bytes, end: bool) -> bytes:
        return data.upper()

    def on_response_data(self, stream: FilterStream, data: bytes, end: bool) -> bytes:
        return data.upper()


class NoFilter:
    pass


def entry(name: str, kind: str) -> EntryPoint:
    return EntryPoint(name, f"{__name__}:{kind}", "mosn_xds.stream_filters")


def chain(*configs: spec.FilterConfig) -> list[StreamFilter]:
    named = [spec.HttpFilter(f"filter{n}", config) for n, config in enumerate(configs)]
    return build_filters(named, HarnessContext(), Worker())


def test_what_decides_nothing_is_left_out_of_the_chain() -> None:
    built = chain(
        spec.PeerMetadataFilter(), spec.RbacFilter(), spec.AlpnFilter(), spec.AlpnFilter(), spec.FaultFilter(),
        spec.CorsFilter(), spec.IstioStatsFilter(), spec.RouterFilter(),
    )  # fmt: skip
    assert [found.name for found in built] == ["filter0", "filter1", "filter4", "filter5"]
    phases = FilterChain(built)
    assert [name for name, _ in phases.on_response] == ["filter5", "filter0"]
    assert phases.on_request_data == ()


def test_two_filters_of_one_kind_share_their_stats() -> None:
    chain(spec.FaultFilter(), spec.FaultFilter(), spec.RbacFilter(), spec.RbacFilter(shadow_stat_prefix="x"))


def test_error_names_the_filter() -> None:
    bad = spec.RbacNode("path", string=StringMatch(StringMatchKind.REGEX, "("))
    rules = spec.RbacRules(spec.RbacAction.DENY, (spec.RbacPolicy("p", (bad,), (bad,)),))
    with pytest.raises(ConfigError) as caught:
        chain(spec.CorsFilter(), spec.RbacFilter(rules))
    assert caught.value.path == "http_filters[1]"


def test_unknown_filter_lets_nothing_pass() -> None:
    answer = FilterHarness(*chain(spec.UnknownFilter("type.x/Odd", "no such filter"))).request().answer
    assert answer is not None
    assert (answer.status, answer.details) == (503, "unknown_filter{no_such_filter}")


TOLD = [(b"x-envoy-peer-metadata", b"x"), (b"a", b"b"), (b"x-envoy-peer-metadata-id", b"y")]


def test_what_peers_tell_reaches_nobody() -> None:
    stream = FilterHarness(*chain(spec.PeerMetadataFilter())).request(fields=list(TOLD))
    assert stream.request.fields == [(b"a", b"b")]
    assert stream.respond(fields=list(TOLD))[0] == ResponseHead(200, [(b"a", b"b")])


def test_we_tell_the_upstream_who_we_are_whatever_the_application_says() -> None:
    config = spec.PeerMetadataFilter(from_downstream=False, to_upstream=True, metadata="m", node_id="n")
    stream = FilterHarness(*chain(config)).request(fields=list(TOLD))
    ours = [(b"x-envoy-peer-metadata-id", b"n"), (b"x-envoy-peer-metadata", b"m")]
    assert stream.request.fields == [(b"a", b"b"), *ours]


def test_we_tell_the_downstream_if_it_told_us() -> None:
    config = spec.PeerMetadataFilter(from_upstream=False, to_downstream=True, metadata="m", node_id="n")
    ours = [(b"x-envoy-peer-metadata-id", b"n"), (b"x-envoy-peer-metadata", b"m")]
    asked = FilterHarness(*chain(config)).request(fields=list(TOLD))
    assert asked.respond(fields=[(b"c", b"d")])[0].fields == [(b"c", b"d"), *ours]
    silent = FilterHarness(*chain(config)).request(fields=[(b"a", b"b")])
    assert silent.respond(fields=[(b"c", b"d")])[0].fields == [(b"c", b"d")]


def test_filter_by_entry_point_with_options() -> None:
    context = HarnessContext()
    filters = ExtensionFilters([entry("need-token", "NeedToken")])
    found = filters.build(spec.ExtensionFilter("need-token", b'{"header": "x-token"}'), context)
    harness = FilterHarness(found)
    answer = harness.request().answer
    assert answer is not None
    assert (answer.status, context.counters) == (401, {"no_token": 1})
    assert harness.request(fields=[(b"x-token", b"t")]).forwarded


@pytest.mark.parametrize(
    ("config", "entries", "message"),
    [
        (b"{}", [], "no entry point f"),
        (b"{}", [entry("f", "NeedToken"), entry("f", "Slow")], "more than one f: "),
        (b"{}", [entry("f", "Missing")], "f = .*:Missing cannot be loaded: AttributeError"),
        (b"{}", [entry("f", "NoFilter")], "f = .*:NoFilter is no class of that kind"),
        (b"{}", [entry("f", "NeedToken")], "missing required field `header`"),
        (b'{"header": 1}', [entry("f", "NeedToken")], "Expected `str`, got `int`"),
        (b'{"header": "x", "colour": 1}', [entry("f", "NeedToken")], "unknown field `colour`"),
        (b'{"colour": 1}', [entry("f", "Slow")], "unknown field `colour`"),
        (b"{", [entry("f", "Slow")], "Input data was truncated"),
    ],
)
def test_mistakes_with_entry_points_are_clear_errors(config: bytes, entries: list[EntryPoint], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExtensionFilters(entries).build(spec.ExtensionFilter("f", config), HarnessContext())


def test_installed_packages_are_looked_through_once() -> None:
    filters = ExtensionFilters(iter([entry("slow", "Slow")]))  # which can be walked through but once
    first, second = (filters.build(spec.ExtensionFilter("slow", b"{}"), HarnessContext()) for _ in range(2))
    assert isinstance(first, Slow)
    assert isinstance(second, Slow)
    assert first is not second


def test_async_filter_holds_the_stream_until_it_has_decided() -> None:
    harness = FilterHarness(Slow(FilterOptions(), HarnessContext()))
    stream = harness.request(path=b"/ok")
    assert stream.paused
    stream.finish()
    assert stream.forwarded
    denied = harness.request(path=b"/no")
    denied.finish()
    assert denied.answer is not None
    assert not denied.forwarded


def test_bodies_can_be_replaced() -> None:
    stream = FilterHarness(Shout(FilterOptions(), HarnessContext())).request(b"POST", body=b"hello")
    assert stream.body == b"HELLO"
    assert stream.respond(body=b"hi")[1] == b"HI"
