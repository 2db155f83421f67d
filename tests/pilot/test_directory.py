"""A directory of YAML resources while a user edits it."""

from pathlib import Path

import pytest

from mosn_xds.pilot.directory import Directory

CLUSTER = '{"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: %s}\n'
URL = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


@pytest.mark.parametrize(
    "text",
    [
        b"a: [1,\n",
        b"\xff\xfe\x00",
        b"- 5\n",
        b'{"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: {1: 2}}\n',
        b'{"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: a, connect_timeout: 2026-01-01}\n',
        b'{"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster, 1: a}\n',
        b"[" * 5000,
        b"&a [*a]\n",
    ],
)
def test_a_file_that_makes_no_sense_is_a_problem_and_its_last_good_content_stays(tmp_path: Path, text: bytes) -> None:
    directory = Directory(tmp_path)
    (tmp_path / "a.yaml").write_text(CLUSTER % "good")
    assert directory.read()
    (tmp_path / "a.yaml").write_bytes(text)
    (tmp_path / "b.yaml").write_text(CLUSTER % "other")
    assert directory.read()
    assert list(directory.problems) == [str(tmp_path / "a.yaml")]
    assert sorted(directory.resources()[URL]) == ["good", "other"]
    assert not directory.read()
    (tmp_path / "a.yaml").write_text(CLUSTER % "better")
    assert directory.read()
    assert not directory.problems
    assert sorted(directory.resources()[URL]) == ["better", "other"]


def test_a_file_that_an_editor_takes_away_for_a_moment_is_no_problem(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    (tmp_path / "a.yaml").symlink_to(tmp_path / "nowhere")
    directory.read()
    assert directory.resources() == {}
    assert directory.problems == {}
