"""Nothing is ignored in silence, further down: every field of every message that any translator opens.

`test_every_field` sets fields of messages at places that it lists. Here nothing is listed: each message type that is opened
while its samples and some recorded resources are translated is caught in the act, in the first resource where that
happens and in the last, and each of its fields is set at that very moment, before it is read. What was set must have an
effect, be refused, or be reported; exceptions stand in `NO_EFFECT` with their reason.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mosn_xds.base.errors import ConfigError
from mosn_xds.control.translate import NodeContext, Translated, Translator
from mosn_xds.control.translate.take import Take
from mosn_xds.pilot.recording import read_recording
from tests.control.translate.test_every_field import CASES, OPTIONS, PLACES, outcome, registry
from tests.support.field_samples import message_fields, samples
from tests.support.recordings import ROOT

RECORDINGS = ("bookinfo/reviews-tproxy-delta", "policies/delta", "security/accounts-delta")
LISTED = {full_name for full_name, _ in PLACES}
OPENED_WHOLE = {
    "envoy.tcp.metadataexchange.config.MetadataExchange",
    "io.istio.http.peer_metadata.Config",
    "stats.PluginConfig",
    "envoy.extensions.filters.listener.original_src.v3.OriginalSrc",
}
"""Reported as a whole, one line for all that they say."""
NO_EFFECT = {
    ("envoy.config.cluster.v3.Filter", "name"): "for people",
    ("envoy.config.core.v3.ApiConfigSource", "set_node_on_first_message_only"): "there already",
    ("envoy.config.core.v3.ApiConfigSource", "transport_api_version"): "one is refused, the other is there already",
    ("envoy.config.core.v3.TransportSocket", "name"): "for people",
    ("envoy.config.core.v3.UpstreamHttpProtocolOptions", "auto_sni"): "there already",
    (
        "envoy.config.rbac.v3.SourcedMetadata",
        "metadata_source",
    ): "caught in a policy that cannot be evaluated, as is said",
    ("envoy.config.core.v3.RetryPolicy.RetryHostPredicate", "name"): "for people: the type counts",
    ("envoy.config.route.v3.RetryPolicy.RetryHostPredicate", "name"): "for people: the type counts",
    ("xds.core.v3.TypedExtensionConfig", "name"): "for people: the type counts",
    ("envoy.config.core.v3.TypedExtensionConfig", "name"): "for people",
    ("envoy.config.core.v3.JsonFormatOptions", "sort_properties"): "they always are",
    ("envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat", "proper_case_words"): "empty, and there already",
    ("envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties", "source_ip"): "its only value, there already",
    ("envoy.type.v3.HashPolicy", "source_ip"): "empty, and there already",
}


class Scene:
    """A resource in which a message of some type is opened."""

    def __init__(self, type_url: str, raw: bytes) -> None:
        self.type_url = type_url
        self.raw = raw

    def translate(self, watch: "Watch", full_name: str = "", setter: Callable[[Any], None] | None = None) -> Translated:
        """What the resource says once the first message of this type in it has been changed. Raises ConfigError."""
        watch.begin(full_name, setter)
        translator = Translator(NodeContext(), OPTIONS, registry())  # a fresh one: it remembers parts
        return translator.translate(self.type_url, None, self.raw)


class Watch:
    """Sees each message that is opened, and may change one."""

    def __init__(self) -> None:
        self.opened: dict[str, None] = {}
        self._full_name = ""
        self._setter: Callable[[Any], None] | None = None

    def begin(self, full_name: str, setter: Callable[[Any], None] | None) -> None:
        self.opened = {}
        self._full_name, self._setter = full_name, setter

    def see(self, message: Any) -> None:
        full_name = message.DESCRIPTOR.full_name
        if full_name == self._full_name and full_name not in self.opened and self._setter is not None:
            self._setter(message)
        self.opened[full_name] = None


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    found = Watch()
    init = Take.__init__

    def watched(take: Take, message: Any, *rest: Any) -> None:
        found.see(message)
        init(take, message, *rest)

    monkeypatch.setattr(Take, "__init__", watched)
    return found


def resources() -> Iterator[Scene]:
    """Many, of all kinds."""
    for _, place, field in CASES:
        for setter in list(samples(field))[:3]:
            type_url, resource, target, pack = place()
            setter(target)
            pack()
            yield Scene(type_url, resource.SerializeToString())
    for name in RECORDINGS:
        for step in read_recording(ROOT / f"{name}.jsonl.gz"):
            for change in step.changes:
                yield from (Scene(change.type_url, raw) for raw in change.upserts.values())


def scenes(watch: Watch) -> dict[str, list[Scene]]:
    """For each message type its first resource and its last."""
    found: dict[str, list[Scene]] = {}
    seen: set[bytes] = set()
    for scene in resources():
        if scene.raw in seen:
            continue
        seen.add(scene.raw)
        try:
            scene.translate(watch)
        except ConfigError:
            continue
        for full_name in watch.opened:
            found[full_name] = [*found.get(full_name, [])[:1], scene]
    return found


def is_told(scene: Scene, watch: Watch, full_name: str, field: Any) -> bool:
    """Whether the field, set in some way or other, has an effect or is reported; or is refused in every way."""
    baseline = outcome(scene.translate(watch))
    silent = False
    for setter in samples(field):
        try:
            found = scene.translate(watch, full_name, setter)
        except ConfigError:
            continue
        if outcome(found) != baseline or any(field.name in path for path in found.unread):
            return True
        silent = True
    return not silent


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("checked_names")
def test_a_field_of_whatever_is_opened_has_an_effect_or_is_named(watch: Watch) -> None:
    found = scenes(watch)
    assert len(found) > 120
    silent = []
    for full_name in sorted(found.keys() - LISTED - OPENED_WHOLE):
        silent += [
            (full_name, field.name)
            for field in message_fields(full_name)
            if not any(is_told(scene, watch, full_name, field) for scene in found[full_name])
        ]
    assert sorted(set(silent) - NO_EFFECT.keys()) == []
