"""HTTP/1.0 and 1.1, sans-io: `Http1ServerCodec` talks to clients, `Http1ClientCodec` to upstreams."""

from mosn_xds.data.codec.http1.client import Http1ClientCodec as Http1ClientCodec
from mosn_xds.data.codec.http1.options import HeaderKeyFormat as HeaderKeyFormat
from mosn_xds.data.codec.http1.options import Http1Options as Http1Options
from mosn_xds.data.codec.http1.options import UnderscoreAction as UnderscoreAction
from mosn_xds.data.codec.http1.server import Http1ServerCodec as Http1ServerCodec
