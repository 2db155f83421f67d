"""Which library runs HTTP/2's state machine: chosen once per process, the codecs do not care."""

from functools import lru_cache
from typing import Protocol

from mosn_xds.data.codec.http2.engine import EngineHandler, Http2Engine
from mosn_xds.data.codec.http2.ngh2_engine import Ngh2Engine, configuration
from mosn_xds.data.codec.http2.options import Http2Options
from mosn_xds.spec.feed import Http2Library


class EngineFactory(Protocol):
    """Makes engines; the same for all connections with equal options."""

    def __call__(self, handler: EngineHandler, options: Http2Options, *, server: bool) -> Http2Engine: ...


def ngh2_engine(handler: EngineHandler, options: Http2Options, *, server: bool) -> Http2Engine:
    """An engine on nghttp2."""
    return Ngh2Engine(handler, options, _configuration(options), server=server)


def h2_engine(handler: EngineHandler, options: Http2Options, *, server: bool) -> Http2Engine:
    """An engine on h2; imported when first used."""
    from mosn_xds.data.codec.http2.h2_engine import H2Engine  # noqa: PLC0415  # few need it, and it is not small

    return H2Engine(handler, options, server=server)


_configuration = lru_cache(maxsize=256)(configuration)

ENGINES: dict[Http2Library, EngineFactory] = {Http2Library.NGH2: ngh2_engine, Http2Library.H2: h2_engine}
