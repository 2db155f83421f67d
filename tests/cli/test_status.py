"""What `mosn-xds status` makes of a proxy's `/xds`."""

from typing import Any

import pytest

from mosn_xds.cli.status import is_fine, show

STATE: dict[str, Any] = {
    "state": "LIVE",
    "streams": [{"source": "ads", "target": "x", "connected": True, "last_error": ""}],
    "workers": [{"slot": 0, "pid": 7, "generation": 3, "restarts": 0, "state": "serving"}],
    "worker_refusals": [],
    "bootstrap": {
        "unread": ["static_resources.clusters[0].outlier_detection"],
        "warnings": ["node: odd"],
        "static": [{"type": "Cluster", "name": "pilot"}],
    },
    "resources": [
        {"type": "Listener", "name": "web", "status": "acked", "version": "1", "unread": ["socket_options"]},
        {"type": "Cluster", "name": "books", "status": "acked", "version": "1", "warnings": ["a filter is left out"]},
    ],
    "refused": 0,
}


def test_unread_fields_and_warnings_are_listed_wherever_they_come_from(capsys: pytest.CaptureFixture[str]) -> None:
    show(STATE, unread=True)
    lines = capsys.readouterr().out.splitlines()
    assert "  Bootstrap\t\tstatic_resources.clusters[0].outlier_detection" in lines
    assert "  Listener\tweb\tsocket_options" in lines
    assert "  Bootstrap\t\tnode: odd" in lines
    assert "  Cluster\tbooks\ta filter is left out" in lines


def test_what_stands_in_the_bootstrap_is_listed_too(capsys: pytest.CaptureFixture[str]) -> None:
    show(STATE, unread=False)
    assert "static resources, of the bootstrap\n  Cluster\tpilot\nresources\n  Listener\tweb" in capsys.readouterr().out
    show({**STATE, "resources": []}, unread=False)
    assert "\nresources\n" not in capsys.readouterr().out


def test_fields_without_effect_are_counted_and_not_listed_unless_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    show(STATE, unread=False)
    out = capsys.readouterr().out
    assert "  Listener\tweb\tacked\t1\t1\t\n" in out
    assert "socket_options" not in out


@pytest.mark.parametrize(
    "change",
    [
        {"state": "INITIALIZING"},
        {"refused": 1},
        {"worker_refusals": [{"type": "Listener", "name": "l", "reason": "x", "serving_last_good": True}]},
        {"resources": [{"type": "Cluster", "name": "c", "status": "warming", "version": "1"}]},
        {"workers": [{"slot": 0, "pid": None, "generation": 0, "restarts": 9, "state": "backing off"}]},
    ],
)
def test_what_is_not_fine(change: dict[str, Any]) -> None:
    assert is_fine(STATE)
    assert not is_fine({**STATE, **change})
