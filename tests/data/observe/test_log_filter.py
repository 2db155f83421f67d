"""Which streams are logged."""

import pytest

from mosn_xds.base.errors import ConfigError, ResponseFlag
from mosn_xds.data.observe.log_filter import compile_log_filter
from mosn_xds.spec.access_log import Comparison, LogFilter
from mosn_xds.spec.common import Fraction, HeaderMatch, StringMatch, StringMatchKind
from tests.support.heads import environment, info, request, response

EQ, GE, LE, NE = Comparison
NR = LogFilter("response_flag", flags=("NR", "UF"))
SERVER_ERROR = LogFilter("status", op=GE, value=500)


def logged(spec: LogFilter, stream) -> bool:
    return compile_log_filter(spec, environment())(stream)


@pytest.mark.parametrize(
    ("op", "value", "codes"),
    [(GE, 404, [404, 500]), (EQ, 404, [404]), (LE, 404, [0, 200, 404]), (NE, 404, [0, 200, 500])],
)
def test_status(op, value, codes):
    spec = LogFilter("status", op=op, value=value)
    assert [code for code in (0, 200, 404, 500) if logged(spec, info(response_code=code))] == codes


def test_duration_is_in_milliseconds_of_a_stream_that_has_ended():
    slow = LogFilter("duration", op=GE, value=100)
    assert logged(slow, info(duration_s=0.1))
    assert not logged(slow, info(duration_s=0.0999))
    assert not logged(slow, info(duration_s=None))


def test_response_flags():
    assert logged(NR, info(flags=int(ResponseFlag.UF | ResponseFlag.URX)))
    assert not logged(NR, info(flags=int(ResponseFlag.DC)))
    assert logged(LogFilter("response_flag"), info(flags=int(ResponseFlag.DC)))
    assert not logged(LogFilter("response_flag"), info())


def test_and_or():
    both = LogFilter("and", children=(NR, SERVER_ERROR))
    either = LogFilter("or", children=(NR, SERVER_ERROR))
    stream = info(response_code=503)
    assert (logged(both, stream), logged(either, stream)) == (False, True)
    stream.flags = int(ResponseFlag.UF)
    assert (logged(both, stream), logged(either, stream)) == (True, True)


def test_header():
    spec = LogFilter("header", header=HeaderMatch("x", string=StringMatch(StringMatchKind.EXACT, "1")))
    assert logged(spec, info(request("/", ("x", "1"))))
    assert not logged(spec, info(request("/")))
    assert not logged(spec, info(None))


def test_a_share_of_requests_is_the_same_at_every_hop():
    half = LogFilter("runtime", fraction=Fraction(50, 100))

    def sampled(number: int) -> bool:
        return logged(half, info(request("/", ("x-request-id", f"{number:08x}-0000-4000-8000-000000000000"))))

    assert [sampled(number) for number in (0, 49, 50, 99, 100, 149, 150)] == [
        True,
        True,
        False,
        False,
        True,
        True,
        False,
    ]


def test_without_a_request_id_the_share_is_drawn():
    some = compile_log_filter(LogFilter("runtime", fraction=Fraction(30, 100)), environment())
    assert 200 < sum(some(info(request())) for _ in range(1000)) < 400


@pytest.mark.parametrize(
    ("stream", "included", "excluded"),
    [
        (info(response_head=response(200, ("grpc-status", "5")), response_code=200), True, False),
        (info(response_code=503), True, True),
        (info(response_code=400), False, True),
        (info(), True, True),
    ],
)
def test_grpc_status(stream, included, excluded):
    assert logged(LogFilter("grpc_status", values=(2, 5, 14)), stream) is included
    assert logged(LogFilter("grpc_status", values=(5,), exclude=True), stream) is excluded


def test_only_forced_traces_are_traceable():
    spec = LogFilter("traceable")
    forced, not_traced = "270fa844-36c1-a8fe-8ba5-2f8b91974e3c", "270fa844-36c1-48fe-8ba5-2f8b91974e3c"
    assert logged(spec, info(request("/", ("x-request-id", forced))))
    assert not logged(spec, info(request("/", ("x-request-id", not_traced))))
    assert not logged(spec, info(request("/")))


def test_never_and_always():
    assert not logged(LogFilter("never"), info())
    assert logged(LogFilter("not_health_check"), info())


@pytest.mark.parametrize(
    "spec",
    [LogFilter("sometimes"), LogFilter("response_flag", flags=("XX",)), LogFilter("header"), LogFilter("runtime")],
)
def test_what_makes_no_sense_is_refused(spec):
    with pytest.raises(ConfigError):
        compile_log_filter(spec, environment())
