"""Times as text, as a real Envoy 1.40 prints them."""

import time

import pytest

from mosn_xds.data.observe.clock_format import DEFAULT_FORMAT, DEFAULT_LOCAL_FORMAT, compile_time_format

MOMENT = 1795409851.44098
"""2026-11-23 04:57:31.440980 UTC, a Monday."""


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (DEFAULT_FORMAT, "2026-11-23T04:57:31.440Z"),
        ("%s", "1795409851"),
        ("%Y/%m", "2026/11"),
        ("%s.%3f", "1795409851.440"),
        ("%6f", "440980"),
        ("%1f", "4"),
        ("%f", "440980000"),
        ("%9f", "440980000"),
        ("%3f|%E3S|%E6S|%E*S|%ES", "440|31.440|31.440980|31.44098|%ES"),
        ("%H:%M:%S %Z %z %a %b %e %j", "04:57:31 UTC +0000 Mon Nov 23 327"),
        ("%%", "%"),
        ("%%s%%3f", "%s%3f"),
        ("", ""),
    ],
)
def test_formats(pattern, expected):
    assert compile_time_format(pattern)(MOMENT) == expected.encode()


def test_a_whole_second_has_no_fraction_where_only_what_is_there_is_asked_for():
    render = compile_time_format("%E*S %E3S")
    assert render(1795409851.0) == b"31 31.000"


def test_what_is_kept_for_a_second_is_not_shown_in_the_next():
    render = compile_time_format(DEFAULT_FORMAT)
    assert [render(MOMENT + ahead) for ahead in (0, 0.5, 1, 86400)] == [
        b"2026-11-23T04:57:31.440Z",
        b"2026-11-23T04:57:31.940Z",
        b"2026-11-23T04:57:32.440Z",
        b"2026-11-24T04:57:31.440Z",
    ]


def test_rounding_never_shows_a_sixtieth_second():
    assert compile_time_format("%E3S")(1795409999.9999999) == b"00.000"


def test_local_time_says_its_offset():
    local = time.localtime(int(MOMENT))
    expected = time.strftime("%Y-%m-%dT%H:%M:%S.440%z", local)
    assert compile_time_format(DEFAULT_LOCAL_FORMAT, local=True)(MOMENT).decode() == expected
