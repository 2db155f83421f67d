"""What the agent accepts, a worker builds: every recorded resource through translation and a worker's engine.

A worker that refused a Spec would be a defect of ours: the agent decides every refusal.
"""

import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mosn_xds.base.clock import CachedClock
from mosn_xds.base.errors import ConfigError
from mosn_xds.base.limits import LimitProvider
from mosn_xds.base.stats import StatRegistry
from mosn_xds.control.translate import NodeContext, Options, Translator
from mosn_xds.control.translate.model import Spec
from mosn_xds.control.translate.registry import Registry
from mosn_xds.data.engine import Engine
from mosn_xds.data.net.reactor import Reactor
from mosn_xds.data.proxy.context import Task
from mosn_xds.spec.feed import Configure, Put
from mosn_xds.spec.snapshot import SPEC_TYPES, make_item
from tests.support.recordings import resources, sessions


def no_tasks(run: Callable[[], Awaitable[None]]) -> Task:
    raise AssertionError("building needs no task")


def put(spec: Spec) -> Put:
    kind = next(kind for kind, found in SPEC_TYPES.items() if isinstance(spec, found))
    return Put(make_item(kind, spec.name, spec))


@pytest.mark.parametrize("path", sessions("delta"), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_worker_builds_what_was_accepted(path: Path) -> None:
    engine = Engine(
        Reactor(CachedClock()), Configure(0, 1), StatRegistry(), LimitProvider(), random.Random(1), no_tasks
    )
    translator = Translator(
        NodeContext(), Options(runtime={"re2.max_program_size.error_level": 32768}), Registry([], frozenset())
    )
    staged = 0
    for resource in resources(path):
        try:
            translated = translator.translate(resource.type_url, resource.name, resource.raw)
        except ConfigError:
            continue
        for spec in (translated.spec, *translated.extra):
            engine.stage(put(spec))
            staged += 1
    assert staged
