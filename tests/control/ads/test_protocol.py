"""The ADS machine as conversations.

In a script ``>>`` is what the machine sends and ``<<`` what the server says (the notation of Envoy's own transcripts);
other lines are calls of the owner. Every request must be spelled out: one too many fails as one too few.
"""

import re

import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, wrappers_pb2

from mosn_xds.control.ads.events import Event, Ignored, ProtocolError, Rejected, Response, Variant
from mosn_xds.control.ads.protocol import AdsProtocol
from mosn_xds.control.ads.resource_types import CDS, ECDS, EDS, LDS, RDS, RESOURCE_TYPES, SDS

SHORT = {row.short: row for row in (CDS, EDS, LDS, RDS, SDS, ECDS)}
NODE = base_pb2.Node(id="sidecar~10.0.0.1~a.b~b.svc.cluster.local")


def payload(name: str) -> bytes:
    return wrappers_pb2.StringValue(value=name).SerializeToString()


def short(url: str) -> str:
    return RESOURCE_TYPES[url].short if url in RESOURCE_TYPES else url


def show(raw: bytes, variant: Variant) -> str:
    words = []
    if variant is Variant.SOTW:
        request = discovery_pb2.DiscoveryRequest.FromString(raw)
        words += [short(request.type_url), request.version_info, request.response_nonce]
        words.append(f"names=[{' '.join(request.resource_names)}]" if request.resource_names else "")
    else:
        delta = request = discovery_pb2.DeltaDiscoveryRequest.FromString(raw)
        words += [short(delta.type_url), delta.response_nonce]
        words.append(f"sub=[{' '.join(delta.resource_names_subscribe)}]" if delta.resource_names_subscribe else "")
        words.append(
            f"unsub=[{' '.join(delta.resource_names_unsubscribe)}]" if delta.resource_names_unsubscribe else ""
        )
        held = " ".join(f"{n}:{v}" for n, v in sorted(delta.initial_resource_versions.items()))
        words.append(f"init={{{held}}}" if held else "")
    if request.HasField("node"):
        assert request.node == NODE
        words.insert(1, "node")
    if request.HasField("error_detail"):
        words.append(f"error={request.error_detail.code}:{request.error_detail.message}")
    return " ".join(word for word in words if word)


def response(variant: Variant, text: str) -> bytes:
    """``CDS v1 n1 [a b:v5] removed=[c]``; in delta ``b:v5`` gives a version, ``b!`` is a heartbeat."""
    found = re.fullmatch(r"(\S+) (?:(v\S+) )?(n\S+)(?: \[(.*?)\])?(?: removed=\[(.*?)\])?", text)
    assert found, text
    kind, version, nonce, names, removed = found.groups()
    url = SHORT[kind].url if kind in SHORT else kind
    if variant is Variant.SOTW:
        message = discovery_pb2.DiscoveryResponse(version_info=version, nonce=nonce, type_url=url)
        for name in (names or "").split():
            message.resources.append(any_pb2.Any(type_url=url, value=payload(name)))
        return message.SerializeToString()
    delta = discovery_pb2.DeltaDiscoveryResponse(system_version_info=version or "", nonce=nonce, type_url=url)
    for word in (names or "").split():
        name, _, item_version = word.rstrip("!").partition(":")
        resource = delta.resources.add(name=name, version=item_version)
        if not word.endswith("!"):
            resource.resource.CopyFrom(any_pb2.Any(type_url=url, value=payload(name)))
    delta.removed_resources.extend((removed or "").split())
    return delta.SerializeToString()


class Talk:
    """Runs scripts; keeps the events of the last one in `events`."""

    def __init__(self, variant: Variant, *, node_once: bool = True) -> None:
        self.variant = variant
        self.machine = AdsProtocol(variant, NODE, node_on_first_message_only=node_once)
        self.events: list[Event] = []
        self.due: list[Response] = []
        self.sent: list[str] = []

    def __call__(self, script: str) -> "Talk":
        self.events = []
        for line in (line.partition("#")[0].strip() for line in script.splitlines()):
            if not line:
                continue
            if line.startswith(">> "):
                assert self.sent, f"not sent: {line}"
                assert self.sent.pop(0) == line[3:]
                continue
            assert not self.sent, f"sent before {line!r}: {self.sent}"
            self._do(line)
            self.sent = [show(raw, self.variant) for raw in self.machine.data_to_send()]
        assert not self.sent, f"sent at the end: {self.sent}"
        return self

    def _do(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        if verb == "<<":
            events = self.machine.received(response(self.variant, rest))
            self.events += events
            self.due += [event for event in events if isinstance(event, Response)]
        elif verb == "accept":
            for step in filter(None, rest.split(", ")):  # what the response caused, done before its verdict
                self._do(step)
            self.machine.accept(self.due.pop(0))
        elif verb == "reject":
            refused = re.match(r"\((.*?)\) ", rest)
            names = refused[1].split() if refused else ()
            self.machine.reject(self.due.pop(0), rest[refused.end() :] if refused else rest, names)
        elif verb in ("subscribe", "unsubscribe"):
            kind, *names = rest.split()
            getattr(self.machine, verb)(SHORT[kind], names)
        elif verb == "again":
            self.machine.ask_again(SHORT[rest])
        else:
            getattr(self.machine, verb)()

    @property
    def names(self) -> list[list[str]]:
        return [[r.name for r in e.resources] for e in self.events if isinstance(e, Response)]


def sotw() -> Talk:
    return Talk(Variant.SOTW)


def delta() -> Talk:
    return Talk(Variant.DELTA)


SOTW_START = """
    subscribe CDS
    connected
    >> CDS node
    << CDS v1 n1 [c1 c2]
    accept subscribe EDS c1 c2
    >> EDS names=[c1 c2]
    >> CDS v1 n1
    << EDS v2 n2 [c1 c2]
    accept subscribe LDS
    >> LDS
    >> EDS v2 n2 names=[c1 c2]
    << LDS v3 n3 [l1]
    accept subscribe RDS r1
    >> RDS names=[r1]
    >> LDS v3 n3
    << RDS v4 n4 [r1]
    accept
    >> RDS v4 n4 names=[r1]
"""

DELTA_START = """
    subscribe CDS
    connected
    >> CDS node
    << CDS n1 [a:v9 b:v5]
    accept subscribe EDS e1 e2
    >> EDS sub=[e1 e2]
    >> CDS n1
    << EDS n2 [e1:v6]
    accept subscribe LDS
    >> LDS
    >> EDS n2
    << LDS n3 [l1:v2]
    accept subscribe RDS r1
    >> RDS sub=[r1]
    >> LDS n3
    << RDS n4 [r1:v17]
    accept
    >> RDS n4
"""


def test_sotw_start_asks_for_what_a_response_names_before_acking_it() -> None:
    talk = sotw()(SOTW_START)
    assert talk.names == [["c1", "c2"], ["c1", "c2"], ["l1"], ["r1"]]


def test_sotw_changed_names_repeat_the_last_nonce_and_version() -> None:
    sotw()(SOTW_START)(
        """
        << LDS v5 n5 [l1 l2]
        accept subscribe RDS r2
        >> RDS v4 n4 names=[r1 r2]
        >> LDS v5 n5
        unsubscribe RDS r1
        >> RDS v4 n4 names=[r2]
        """
    )


def test_sotw_names_that_change_while_their_type_is_judged_travel_with_the_ack() -> None:
    sotw()(SOTW_START)(
        """
        << RDS v6 n6 [r1]
        subscribe RDS r2
        unsubscribe RDS r1
        accept
        >> RDS v6 n6 names=[r2]
        """
    )


def test_sotw_names_that_change_while_another_type_is_judged_leave_at_once() -> None:
    sotw()(SOTW_START)(
        """
        << LDS v6 n6 [l1]
        subscribe EDS c3
        >> EDS v2 n2 names=[c1 c2 c3]
        accept
        >> LDS v6 n6
        """
    )


def test_sotw_nack_keeps_the_old_version_and_names_the_reason() -> None:
    talk = sotw()(SOTW_START)(
        """
        << CDS v8 n8 [bad]
        reject Error adding/updating cluster(s) bad: why
        >> CDS v1 n8 error=13:Error adding/updating cluster(s) bad: why
        """
    )
    state = next(state for state in talk.machine.types if state.type is CDS)
    assert (state.version, state.error) == ("v1", "Error adding/updating cluster(s) bad: why")
    talk(
        """
        << CDS v9 n9 [good]
        accept
        >> CDS v9 n9
        """
    )
    assert (state.version, state.error) == ("v9", "")


def test_sotw_new_stream_keeps_versions_forgets_nonces_and_repeats_the_node() -> None:
    sotw()(SOTW_START)(
        """
        disconnected
        connected
        >> CDS node v1
        >> EDS v2 names=[c1 c2]
        >> LDS v3
        >> RDS v4 names=[r1]
        """
    )


def test_sotw_named_type_stays_subscribed_with_no_names() -> None:
    sotw()(SOTW_START)(
        """
        << CDS v19 n19 []
        accept unsubscribe EDS c1 c2
        >> EDS v2 n2
        >> CDS v19 n19
        disconnected
        connected
        >> CDS node v19
        >> EDS v2
        >> LDS v3
        >> RDS v4 names=[r1]
        """
    )


def test_sotw_asks_again_for_the_endpoints_of_a_changed_cluster() -> None:
    sotw()(SOTW_START)(
        """
        << CDS v8 n8 [c1 c2]
        accept again EDS
        >> EDS v2 n2 names=[c1 c2]
        >> CDS v8 n8
        """
    )


def test_delta_has_no_need_to_ask_again() -> None:
    delta()(DELTA_START)(
        """
        << CDS n8 [a:v10]
        accept again EDS
        >> CDS n8
        """
    )


def test_sotw_absence_deletes_only_where_a_response_is_complete() -> None:
    talk = sotw()(SOTW_START)
    assert [e.complete for e in talk.events if isinstance(e, Response)] == [True, False, True, False]


def test_delta_absence_never_deletes() -> None:
    talk = delta()(DELTA_START)
    assert not any(e.complete for e in talk.events if isinstance(e, Response))


def test_delta_start_keeps_acks_and_subscriptions_apart() -> None:
    delta()(DELTA_START)


def test_delta_subscription_changes_are_spontaneous() -> None:
    talk = delta()(DELTA_START)(
        """
        << CDS n8 removed=[b]
        accept unsubscribe EDS e2
        >> EDS unsub=[e2]
        >> CDS n8
        << EDS n9 [e1:v7]
        subscribe EDS e3
        >> EDS sub=[e3]
        accept
        >> EDS n9
        """
    )
    first = talk.events[0]
    assert isinstance(first, Response)
    assert first.removed == ("b",)


def test_delta_changes_before_anything_was_sent_are_both_told() -> None:
    talk = delta()(DELTA_START)
    talk.machine.unsubscribe(RDS, ["r1"])
    talk.machine.subscribe(RDS, ["r1", "r2"])
    talk.machine.unsubscribe(RDS, ["r2"])
    assert [show(raw, Variant.DELTA) for raw in talk.machine.data_to_send()] == ["RDS sub=[r1] unsub=[r2]"]


def test_delta_new_stream_says_what_is_held_and_asks_for_what_is_awaited() -> None:
    delta()(DELTA_START)(
        """
        disconnected
        connected
        >> CDS node init={a:v9 b:v5}
        >> EDS sub=[e1 e2] init={e1:v6}
        >> LDS init={l1:v2}
        >> RDS sub=[r1] init={r1:v17}
        """
    )


def test_delta_new_stream_is_silent_about_types_without_names() -> None:
    delta()(DELTA_START)(
        """
        unsubscribe RDS r1
        >> RDS unsub=[r1]
        disconnected
        unsubscribe EDS e1 e2
        connected
        >> CDS node init={a:v9 b:v5}
        >> LDS init={l1:v2}
        subscribe RDS r1
        >> RDS sub=[r1]
        """
    )


def test_delta_removed_and_refused_resources_are_not_held() -> None:
    delta()(DELTA_START)(
        """
        << CDS n8 [c:v1 d:v1] removed=[a]
        reject (d) Error adding/updating cluster(s) d: why
        >> CDS n8 error=13:Error adding/updating cluster(s) d: why
        << RDS n9 removed=[r1]
        accept
        >> RDS n9
        disconnected
        connected
        >> CDS node init={b:v5 c:v1}
        >> EDS sub=[e1 e2] init={e1:v6}
        >> LDS init={l1:v2}
        >> RDS sub=[r1]
        """
    )


def test_delta_refused_update_is_held_at_the_version_in_use() -> None:
    delta()(DELTA_START)(
        """
        << CDS n8 [a:v10]
        reject (a) why
        >> CDS n8 error=13:why
        disconnected
        connected
        >> CDS node init={a:v9 b:v5}
        >> EDS sub=[e1 e2] init={e1:v6}
        >> LDS init={l1:v2}
        >> RDS sub=[r1] init={r1:v17}
        """
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("CDS n8 [d d]", "duplicate name d found among added/updated resources"),
        ("CDS n8 [d] removed=[d]", "duplicate name d found in the union of added+removed resources"),
    ],
)
def test_delta_response_that_contradicts_itself_is_rejected_whole(text: str, reason: str) -> None:
    talk = delta()(DELTA_START)(f"<< {text}\n>> CDS n8 error=13:{reason}")
    assert talk.events == [Rejected(CDS, "", "n8", reason)]


def test_delta_heartbeat_changes_nothing() -> None:
    talk = delta()(DELTA_START)("<< CDS n8 [a:v9!]\naccept\n>> CDS n8")
    assert talk.names == [[]]


@pytest.mark.parametrize("start", [(Variant.SOTW, SOTW_START), (Variant.DELTA, DELTA_START)], ids=["sotw", "delta"])
def test_a_resource_of_another_type_rejects_the_whole_response(start: tuple[Variant, str]) -> None:
    variant, script = start
    talk = Talk(variant)(script)
    wrong = any_pb2.Any(type_url=LDS.url, value=payload("x"))
    good = any_pb2.Any(type_url=CDS.url, value=payload("y"))
    if variant is Variant.SOTW:
        raw = discovery_pb2.DiscoveryResponse(
            version_info="v8", nonce="n8", type_url=CDS.url, resources=[good, wrong]
        ).SerializeToString()
    else:
        message = discovery_pb2.DeltaDiscoveryResponse(nonce="n8", type_url=CDS.url)
        message.resources.add(name="y").resource.CopyFrom(good)
        message.resources.add(name="x").resource.CopyFrom(wrong)
        raw = message.SerializeToString()
    (event,) = talk.machine.received(raw)
    assert isinstance(event, Rejected)
    assert f"does not match the message-wide type URL {CDS.url}" in event.reason
    (sent,) = talk.machine.data_to_send()
    assert f"n8 error=13:{event.reason}" in show(sent, variant)


def test_response_without_subscription_is_ignored() -> None:
    talk = sotw()(SOTW_START)("<< SDS v9 n9 [s]\n<< type.googleapis.com/no.such.Type v9 n10 [x]")
    assert [type(event) for event in talk.events] == [Ignored, Ignored]


def test_names_that_nobody_asked_for_are_left_out_and_acked() -> None:
    talk = sotw()(SOTW_START)("<< RDS v6 n6 [r1 rX]\naccept\n>> RDS v6 n6 names=[r1]")
    (event,) = talk.events
    assert isinstance(event, Response)
    assert [r.name for r in event.resources] == ["r1"]
    assert event.unrequested == ("rX",)


def test_resource_that_cannot_be_named_is_a_fault_and_nothing_counts_as_deleted() -> None:
    talk = sotw()(SOTW_START)
    message = discovery_pb2.DiscoveryResponse(version_info="v8", nonce="n8", type_url=CDS.url)
    message.resources.add(type_url=CDS.url, value=payload("c1"))
    message.resources.add(type_url=CDS.url, value=b"\x0a\xff")
    message.resources.add(type_url=CDS.url, value=b"")
    (event,) = talk.machine.received(message.SerializeToString())
    assert isinstance(event, Response)
    assert [r.name for r in event.resources] == ["c1"]
    assert not event.complete
    unpack, nameless = event.faults
    assert unpack.startswith("resources[1]: Unable to unpack as envoy.config.cluster.v3.Cluster: ")
    assert nameless == "resources[2]: cluster without a name"


def test_resource_bytes_are_those_received() -> None:
    raw = b"\x20\x01\x0a\x02c1"  # fields in an order that no serialiser would choose
    message = discovery_pb2.DiscoveryResponse(version_info="v1", nonce="n1", type_url=CDS.url)
    message.resources.add(type_url=CDS.url, value=raw)
    talk = sotw()("subscribe CDS\nconnected\n>> CDS node")
    (event,) = talk.machine.received(message.SerializeToString())
    assert isinstance(event, Response)
    assert [(r.name, r.raw, r.version) for r in event.resources] == [("c1", raw, "v1")]


def test_sotw_resource_may_come_wrapped() -> None:
    message = discovery_pb2.DiscoveryResponse(version_info="v1", nonce="n1", type_url=CDS.url)
    wrapper = discovery_pb2.Resource(name="c1", version="w7")
    wrapper.resource.CopyFrom(any_pb2.Any(type_url=CDS.url, value=payload("c1")))
    message.resources.add().Pack(wrapper)
    talk = sotw()("subscribe CDS\nconnected\n>> CDS node")
    (event,) = talk.machine.received(message.SerializeToString())
    assert isinstance(event, Response)
    assert [(r.name, r.version, r.raw) for r in event.resources] == [("c1", "w7", payload("c1"))]


def test_verdict_of_a_lost_stream_counts_but_is_not_sent() -> None:
    sotw()(SOTW_START)(
        """
        << CDS v8 n8 [c1 c2]
        disconnected
        connected
        >> CDS node v1
        >> EDS v2 names=[c1 c2]
        >> LDS v3
        >> RDS v4 names=[r1]
        accept
        subscribe EDS c3
        >> EDS v2 names=[c1 c2 c3]
        disconnected
        connected
        >> CDS node v8
        >> EDS v2 names=[c1 c2 c3]
        >> LDS v3
        >> RDS v4 names=[r1]
        """
    )


def test_node_is_repeated_when_the_configuration_says_so() -> None:
    Talk(Variant.DELTA, node_once=False)(
        """
        connected
        subscribe CDS
        >> CDS node
        << CDS n1 [c1:v1]
        accept
        >> CDS node n1
        """
    )


def test_nothing_is_sent_before_there_is_a_stream() -> None:
    delta()("subscribe CDS\nsubscribe EDS e1\nunsubscribe EDS e1\nsubscribe RDS r1 r1")(
        """
        connected
        >> CDS node
        >> RDS sub=[r1]
        """
    )


@pytest.mark.parametrize(
    ("reason", "end"), [("a" * 4096, "aaa"), ("a" * 4097, "a...(truncated)"), ("é" * 3000, "é...(truncated)")]
)
def test_nack_message_is_cut(reason: str, end: str) -> None:
    talk = sotw()(SOTW_START)("<< CDS v8 n8 [c1]")
    talk.machine.reject(talk.due.pop(), reason)
    (raw,) = talk.machine.data_to_send()
    message = discovery_pb2.DiscoveryRequest.FromString(raw).error_detail.message
    assert message.endswith(end)
    assert len(message.removesuffix("...(truncated)").encode()) <= 4096


@pytest.mark.parametrize("variant", Variant)
def test_garbage_ends_the_stream(variant: Variant) -> None:
    talk = Talk(variant)
    with pytest.raises(ProtocolError):
        talk.machine.received(b"\xff\xff garbage")
