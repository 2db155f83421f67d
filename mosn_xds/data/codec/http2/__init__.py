"""HTTP/2, sans-io: `Http2ServerCodec` talks to clients, `Http2ClientCodec` to upstreams."""

from mosn_xds.data.codec.http2.client import Http2ClientCodec as Http2ClientCodec
from mosn_xds.data.codec.http2.codes import PREFACE as PREFACE
from mosn_xds.data.codec.http2.codes import ErrorCode as ErrorCode
from mosn_xds.data.codec.http2.engines import ENGINES as ENGINES
from mosn_xds.data.codec.http2.engines import EngineFactory as EngineFactory
from mosn_xds.data.codec.http2.engines import h2_engine as h2_engine
from mosn_xds.data.codec.http2.engines import ngh2_engine as ngh2_engine
from mosn_xds.data.codec.http2.options import FloodLimits as FloodLimits
from mosn_xds.data.codec.http2.options import Http2Options as Http2Options
from mosn_xds.data.codec.http2.server import Http2ServerCodec as Http2ServerCodec
from mosn_xds.data.codec.http2.stats import Http2Stats as Http2Stats
