"""The command line of mosn-xds-proxy: what Envoy takes is taken, what is wrong is one line and exit code 1."""

import subprocess
import sys
from pathlib import Path

import pytest

from mosn_xds.base.log import Level
from mosn_xds.cli.proxy import UsageError, parse
from mosn_xds.process.options import IpVersion, Mode
from mosn_xds.spec.feed import DrainStrategy

BOOTSTRAPS = Path(__file__).resolve().parents[1] / "recordings" / "bootstrap"


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("mosn-xds-proxy")
    return subprocess.run([program, *argv], capture_output=True, text=True, timeout=30, check=False)


def test_every_flag_is_understood() -> None:
    line = (
        "--config-path a.yaml --config-yaml b --mode init_only --concurrency 3 --base-id 4 --log-level debug"
        " --component-log-level upstream:trace,misc:error --log-format %v --log-path log --service-node n"
        " --service-cluster c --service-zone z --drain-time-s 45 --drain-strategy immediate --parent-shutdown-time-s 60"
        " --disable-hot-restart --restart-epoch 0 --local-address-ip-version v6 --file-flush-interval-msec 250"
        " --skip-deprecated-logs --allow-unknown-static-fields --reject-unknown-dynamic-fields"
        " --ignore-unknown-dynamic-fields --admin-address-path p"
    )
    options = parse(line.split())
    assert options.config_path == "a.yaml"
    assert options.config_yaml == "b"
    assert options.mode is Mode.INIT_ONLY
    assert options.concurrency == 3
    assert options.base_id == 4
    assert options.log.level is Level.DEBUG
    assert options.log.components == (("upstream", Level.TRACE), ("misc", Level.ERROR))
    assert options.log.format == "%v"
    assert options.log.path == "log"
    assert (options.service_node, options.service_cluster, options.service_zone) == ("n", "c", "z")
    assert options.drain_time_s == 45
    assert options.shutdown_limit_s == 25
    assert options.drain_strategy is DrainStrategy.IMMEDIATE
    assert options.parent_shutdown_time_s == 60
    assert options.disable_hot_restart
    assert options.local_address_ip_version is IpVersion.V6
    assert options.file_flush_interval_s == 0.25
    assert options.skip_deprecated_logs
    assert options.allow_unknown_static_fields
    assert options.reject_unknown_dynamic_fields
    assert options.ignore_unknown_dynamic_fields
    assert options.admin_address_path == "p"


def test_defaults_are_envoys() -> None:
    options = parse(["-c", "a"])
    assert options.mode is Mode.SERVE
    assert options.concurrency is None
    assert options.log.level is Level.INFO
    assert options.drain_time_s == 600
    assert options.drain_strategy is DrainStrategy.GRADUAL
    assert options.file_flush_interval_s == 10
    assert not options.ignored


@pytest.mark.parametrize("spelling", [["-c", "a"], ["--config-path", "a"], ["--config-path=a"], ["-ca"]])
def test_spellings(spelling: list[str]) -> None:
    assert parse(spelling).config_path == "a"


def test_flags_without_effect_are_named() -> None:
    options = parse(["-c", "a", "--base-id", "1", "--skip-deprecated-logs", "--enable-core-dump", "--socket-mode=600"])
    assert sorted(options.ignored) == ["--base-id", "--enable-core-dump", "--skip-deprecated-logs", "--socket-mode"]


@pytest.mark.parametrize("path", sorted(BOOTSTRAPS.glob("*.args")), ids=lambda path: path.name)
def test_command_lines_of_pilot_agent(path: Path) -> None:
    options = parse(path.read_text().split())
    assert options.config_path == "etc/istio/proxy/envoy-rev.json"
    assert options.drain_strategy is DrainStrategy.IMMEDIATE
    assert options.log.components == (("misc", Level.ERROR),)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("-c a --nope", "--nope"),
        ("-c a --conc 1", "--conc"),
        ("-c a stray", "stray"),
        ("-c a --concurrency x", "couldn't read argument value from string 'x'"),
        ("-c a --concurrency -1", "--concurrency"),
        ("-c", "-c"),
        ("-c a --mode dance", "unknown mode 'dance'"),
        ("-c a --drain-strategy x", "unknown drain-strategy 'x'"),
        ("-c a --local-address-ip-version v5", "unknown IP address version 'v5'"),
        ("-c a -l loud", "invalid log level specified 'loud'"),
        ("-c a --component-log-level x:info", "invalid component specified 'x'"),
        ("-c a --log-format %Q", "%Q"),
        ("-c a --restart-epoch 1", "--restart-epoch 1"),
        ("", "--config-path"),
    ],
)
def test_what_is_wrong_is_named(argv: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(argv.split())
    assert message in str(caught.value)


def test_wrong_command_line_is_one_line_and_exit_code_1() -> None:
    found = run("--nope")
    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr.startswith("error: ")
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize("path", sorted(BOOTSTRAPS.glob("*.json")), ids=lambda path: path.name)
def test_bootstraps_of_istio_validate(path: Path) -> None:
    found = run("-c", str(path), "--mode", "validate", "--allow-unknown-static-fields", "-l", "error")
    assert (found.returncode, found.stdout, found.stderr) == (0, f"configuration '{path}' OK\n", "")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "No such file"),
        ("foo: [", "not YAML"),
        ("foo: 1", "no such field: foo"),
        ("static_resources: {clusters: [{name: a, type: STATIC, connect_timeout: -1s}]}", "connect_timeout"),
    ],
)
def test_unusable_file_is_one_line_with_the_reason(tmp_path: Path, config: str | None, reason: str) -> None:
    path = tmp_path / "config.yaml"
    if config is not None:
        path.write_text(config)
    for mode in ("serve", "validate"):
        found = run("-c", str(path), "--mode", mode)
        assert found.returncode == 1
        assert found.stdout == ""
        assert reason.lower() in found.stderr.lower()
        assert str(path) in found.stderr
        assert found.stderr.count("\n") == 1


def test_yaml_on_the_command_line_is_merged_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("node: {id: from-the-file}")
    found = run("-c", str(path), "--config-yaml", "static_resources: {clusters: [{name: ''}]}", "--mode", "validate")
    assert found.returncode == 1
    assert "clusters[0].name" in found.stderr


def test_ignored_flags_are_one_log_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("{}")
    found = run("-c", str(path), "--mode", "validate", "--base-id", "3", "--enable-core-dump")
    (line,) = [line for line in found.stderr.splitlines() if "without effect" in line]
    assert line.endswith("accepted without effect: --enable-core-dump --base-id")


def test_version() -> None:
    found = run("--version")
    assert found.returncode == 0
    assert "version: 0.1.0" in found.stdout
