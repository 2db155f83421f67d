"""`mosn-xds`: the command for people. `mosn-xds-proxy` is the one for machines that expect Envoy's.

Heavy imports are inside the commands: completion starts this program at each TAB. Exit codes: 0 fine, 1 something is
wrong with what was looked at, 2 usage.
"""

import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import click

from mosn_xds import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A service-mesh data plane in Python that takes Envoy's place in Istio."""


@main.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Run the proxy; takes the options of mosn-xds-proxy (Envoy's)."""
    from mosn_xds.cli.proxy import main as proxy_main  # noqa: PLC0415

    sys.argv[1:] = list(arguments)
    sys.exit(proxy_main())


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def version(as_json: bool) -> None:
    """Print the version, and whether the data half is compiled or interpreted."""
    from mosn_xds.base.form import installed_form  # noqa: PLC0415

    form = installed_form().value
    found = {"version": __version__, "data_half": form}
    click.echo(json.dumps(found) if as_json else f"mosn-xds {__version__} ({form})")


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def validate(files: tuple[Path, ...], as_json: bool) -> None:
    """Check bootstrap files: what is refused, and what has no effect here."""
    from mosn_xds.cli.checks import check_bootstrap  # noqa: PLC0415

    results = [check_bootstrap(path) for path in files]
    if as_json:
        click.echo(json.dumps(results, indent=1))
    else:
        for result in results:
            click.echo(f"{result['file']}: OK" if result["ok"] else result["error"])
            for line in result["unread"]:
                click.echo(f"  without effect: {line}")
            for line in result["warnings"]:
                click.echo(f"  warning: {line}")
    sys.exit(0 if all(result["ok"] for result in results) else 1)


@main.command()
@click.option("--admin", default="http://127.0.0.1:15000", show_default=True, help="The proxy's admin address.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--unread", is_flag=True, help="List the fields that have no effect, and warnings.")
def status(admin: str, as_json: bool, unread: bool) -> None:
    """Show what a running proxy has: streams, resources, refusals with their reasons, workers.

    Exit code 1 if something is refused, warming, or the proxy is not live.
    """
    from mosn_xds.cli.status import is_fine, show  # noqa: PLC0415

    page_url = f"{'' if '://' in admin else 'http://'}{admin.rstrip('/')}/xds"
    try:
        with urllib.request.urlopen(page_url, timeout=5) as page:
            state: dict[str, Any] = json.load(page)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise click.ClickException(
            f"cannot read {page_url}: {reason} (is the proxy running? --admin says where)"
        ) from None
    if not isinstance(state, dict) or "resources" not in state:
        raise click.ClickException(f"{page_url} is no page of mosn-xds (--admin says where the proxy's admin API is)")
    if as_json:
        click.echo(json.dumps(state, indent=1))
    else:
        show(state, unread=unread)
    sys.exit(0 if is_fine(state) else 1)


def _checked_address(context: click.Context, parameter: click.Parameter, given: str) -> str:
    """For gRPC, which takes 99999 for a port, and a name without one for a name."""
    host, _, port = given.rpartition(":")
    if not given.startswith("unix:") and not (host and port.isdecimal() and int(port) < 65536):
        raise click.BadParameter(f"{given} is no HOST:PORT", context, parameter)
    return given


@main.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--listen",
    default="127.0.0.1:15010",
    show_default=True,
    metavar="HOST:PORT",
    callback=_checked_address,
    help="Where to serve ADS; unix:PATH for a unix socket.",
)
@click.option(
    "--interval", type=float, help="Of a recording: make a step each so many seconds; without it, at each Enter."
)
def pilot(source: Path, listen: str, interval: float | None) -> None:
    """Serve a directory of YAML xDS resources, or a recording (.jsonl, .jsonl.gz), over real ADS."""
    from mosn_xds.base.errors import ConfigError  # noqa: PLC0415
    from mosn_xds.cli.serve_pilot import serve_directory, serve_recording  # noqa: PLC0415

    try:
        if source.is_dir():
            serve_directory(source, listen)
        else:
            serve_recording(source, listen, interval)
    except OSError as error:
        raise click.ClickException(str(error)) from None
    except (ConfigError, ValueError) as error:
        raise click.ClickException(f"{source} is no recording: {error} (YAML resources are served by folder)") from None


@main.command()
@click.option("--serve", "keep", is_flag=True, help="Keep it up and say what to try.")
@click.option("--mtls", is_flag=True, help="Two sidecars with mutual TLS: who the peer is, and a rotation.")
@click.option("--rpc", is_flag=True, help="Bolt and Dubbo behind two sidecars: a canary, and a host that dies.")
def demo(keep: bool, mtls: bool, rpc: bool) -> None:
    """A bookshop mesh with real traffic: splits, a NACK, a killed worker. Under a minute."""
    from rich.console import Console  # noqa: PLC0415

    from mosn_xds.cli.demo import rpc_story, secure_story, story  # noqa: PLC0415

    if keep + mtls + rpc > 1:
        raise click.UsageError("one of --serve, --mtls, --rpc: the last two tell their stories and end")
    console = Console(width=None if sys.stdout.isatty() else 110)
    started = time.monotonic()
    try:
        tell = rpc_story.run if rpc else secure_story.run if mtls else story.serve if keep else story.run
        code = tell(console)
    except story.DemoFailed as error:
        raise click.ClickException(str(error)) from None
    if not keep:
        console.print(f"({time.monotonic() - started:.0f} s)")
    sys.exit(code)


if __name__ == "__main__":
    main()
