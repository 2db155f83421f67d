"""`mosn-xds-proxy`: Envoy's command line, so that the program can stand where the Envoy binary stands.

It spells flags and nothing else: `parse` turns them into `Options`, `main` hands these to the agent. What is wrong with
the command line is one line on stderr and exit code 1, as with Envoy. Heavy imports wait until the flags are known good.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn, TypeVar

from mosn_xds.base.log import DEFAULT_FORMAT, Level, LogSettings, compile_format, parse_components
from mosn_xds.process.options import IpVersion, Mode, Options, parse_stats_tag
from mosn_xds.spec.feed import DrainStrategy

_SWITCHES_WITHOUT_EFFECT = (
    "cpuset-threads", "enable-core-dump", "enable-fine-grain-logging", "enable-mutex-tracing",
    "log-stacktrace-single-entry", "skip-deprecated-logs", "skip-hot-restart-on-no-parent",
    "skip-hot-restart-parent-stats", "use-dynamic-base-id",
)  # fmt: skip
_VALUES_WITHOUT_EFFECT = (
    "base-id", "base-id-path", "disable-extensions", "file-flush-min-size-kb", "parent-shutdown-time-s", "socket-mode",
    "socket-path",
)  # fmt: skip


class UsageError(Exception):
    """The command line cannot be used; the text is the line to print."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _number(text: str) -> int:
    """TCLAP's uint32_t."""
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 32:
        raise argparse.ArgumentTypeError(f"couldn't read argument value from string '{text}'")
    return int(text)


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mosn-xds-proxy", allow_abbrev=False, description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("-c", "--config-path", metavar="FILE", help="bootstrap, YAML or JSON")
    add("--config-yaml", metavar="YAML", help="bootstrap as text, merged over the file")
    add("--mode", default="serve", help="serve (default), validate, or init_only")
    add("--concurrency", type=_number, metavar="N", help="worker processes; by default what the CPUs allow")
    add("--base-id", type=_number, default=0, metavar="N")
    add("-l", "--log-level", default="info", metavar="LEVEL", help="trace, debug, info, warning, error, critical, off")
    add("--component-log-level", default="", metavar="LIST", help="for example upstream:debug,ads:trace")
    add("--log-format", default=DEFAULT_FORMAT, metavar="PATTERN", help="as spdlog has it")
    add("--log-format-escaped", action="store_true", help="escape line ends in messages")
    add("--log-path", metavar="FILE", help="log there, not to stderr; opened again at SIGUSR1")
    add("--service-node", default="", metavar="ID", help="node id, in place of the bootstrap's")
    add("--service-cluster", default="", metavar="NAME", help="node cluster, in place of the bootstrap's")
    add("--service-zone", default="", metavar="ZONE", help="node zone, in place of the bootstrap's")
    add("--drain-time-s", type=_number, default=600, metavar="S")
    add("--drain-strategy", default="gradual", help="gradual (default) or immediate")
    add("--parent-shutdown-time-s", type=_number, default=900, metavar="S")
    add("--disable-hot-restart", action="store_true")
    add("--restart-epoch", type=_number, default=0, metavar="N")
    add("--local-address-ip-version", default="v4", help="of our own address in x-forwarded-for: v4 (default) or v6")
    add("--stats-tag", action="append", default=[], metavar="TAG:VALUE", help="on all statistics; may be repeated")
    add("--file-flush-interval-msec", type=_number, default=10_000, metavar="MS", help="of access logs")
    add("--allow-unknown-static-fields", "--allow-unknown-fields", action="store_true")
    add("--reject-unknown-dynamic-fields", action="store_true")
    add("--ignore-unknown-dynamic-fields", action="store_true")
    add("--admin-address-path", default="", metavar="FILE", help="write the address of the admin API there")
    add("--hot-restart-version", action="store_true")
    add("--version", action="store_true")
    for name in _SWITCHES_WITHOUT_EFFECT:
        add(f"--{name}", action="store_true", help="accepted without effect")
    for name in ("base-id-path", "disable-extensions", "socket-mode", "socket-path"):
        add(f"--{name}", metavar="X", help="accepted without effect")
    add("--file-flush-min-size-kb", type=_number, metavar="KB", help="accepted without effect")
    return parser


T = TypeVar("T")


def _choose(what: str, text: str, choices: dict[str, T]) -> T:
    try:
        return choices[text]
    except KeyError:
        raise UsageError(f"unknown {what} '{text}'") from None


def parse(argv: Sequence[str]) -> Options:
    """The options of a command line (without the program's name). Raises UsageError; `--help` exits 0."""
    flags = _make_parser().parse_args(argv)
    given = {arg.partition("=")[0] for arg in argv}
    ignored = [f"--{name}" for name in (*_SWITCHES_WITHOUT_EFFECT, *_VALUES_WITHOUT_EFFECT) if f"--{name}" in given]
    try:
        pattern = flags.log_format.replace("%v", "%_") if flags.log_format_escaped else flags.log_format
        compile_format(pattern)
        log = LogSettings(
            level=Level.parse(flags.log_level),
            components=parse_components(flags.component_log_level),
            format=pattern,
            path=flags.log_path,
        )
        stats_tags = tuple([parse_stats_tag(text) for text in flags.stats_tag])
    except ValueError as error:
        raise UsageError(str(error)) from error
    if flags.restart_epoch > 0:
        raise UsageError(f"--restart-epoch {flags.restart_epoch}: there is no hot restart; start with epoch 0")
    if not flags.config_path and not flags.config_yaml:
        raise UsageError("one of --config-path (-c) and --config-yaml is needed")
    return Options(
        config_path=flags.config_path,
        config_yaml=flags.config_yaml,
        mode=_choose("mode", flags.mode, {mode.value: mode for mode in Mode}),
        # Envoy takes 0 for 1.
        concurrency=None if flags.concurrency is None else max(1, flags.concurrency),
        base_id=flags.base_id,
        log=log,
        component_log_level=flags.component_log_level,
        service_node=flags.service_node,
        service_cluster=flags.service_cluster,
        service_zone=flags.service_zone,
        stats_tags=stats_tags,
        drain_time_s=flags.drain_time_s,
        drain_strategy=_choose(
            "drain-strategy", flags.drain_strategy, {strategy.name.lower(): strategy for strategy in DrainStrategy}
        ),
        parent_shutdown_time_s=flags.parent_shutdown_time_s,
        disable_hot_restart=flags.disable_hot_restart,
        local_address_ip_version=_choose(
            "IP address version", flags.local_address_ip_version, {version.value: version for version in IpVersion}
        ),
        file_flush_interval_s=flags.file_flush_interval_msec / 1000,
        skip_deprecated_logs=flags.skip_deprecated_logs,
        allow_unknown_static_fields=flags.allow_unknown_static_fields,
        reject_unknown_dynamic_fields=flags.reject_unknown_dynamic_fields,
        ignore_unknown_dynamic_fields=flags.ignore_unknown_dynamic_fields,
        admin_address_path=flags.admin_address_path,
        ignored=tuple(ignored),
    )


def _version_line(program: str) -> str:
    import mosn_xds  # noqa: PLC0415
    from mosn_xds.base.form import installed_form  # noqa: PLC0415

    python = sys.version.split(maxsplit=1)[0]
    return f"{program}  version: {mosn_xds.__version__}/Python-{python}/{installed_form().value}"


def _exit_while_starting(number: int, frame: FrameType | None) -> None:
    """Nothing has been accepted yet. Process 1 of a container has no default action for signals, so this must be said."""
    os._exit(0)


def main() -> NoReturn:
    """The program."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit_while_starting)
    argv = sys.argv[1:]
    if "--version" in argv:
        print(_version_line(sys.argv[0]))
        sys.exit(0)
    if "--hot-restart-version" in argv:
        print("disabled")
        sys.exit(0)
    try:
        options = parse(argv)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    from mosn_xds.process.main import run  # noqa: PLC0415

    sys.exit(run(options))


if __name__ == "__main__":
    main()
