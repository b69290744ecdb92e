"""The `emulator` command line. The server is imported only when it runs, so that --help needs none of its
packages.
"""

from __future__ import annotations

from pathlib import Path

import click


def _parse_listen(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter("give ADDRESS:PORT, for example 127.0.0.1:8080; port 0 picks a free one")
    return host.strip("[]") or "127.0.0.1", int(port)


@click.command("emulator")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory that keeps everything; made if missing.",
)
@click.option(
    "--listen",
    default="127.0.0.1:0",
    callback=_parse_listen,
    metavar="ADDRESS:PORT",
    help="Where to listen; port 0 picks a free one.",
)
@click.option(
    "--tls-cert", type=click.Path(path_type=Path, exists=True), help="Certificate file (PEM): serve https."
)
@click.option("--tls-key", type=click.Path(path_type=Path, exists=True), help="The certificate's key (PEM).")
@click.option("--json", "as_json", is_flag=True, help="Print the ready line as JSON.")
@click.option("--log-level", default="warning", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--allow-remote", is_flag=True, help="Listen on an address that other machines can reach.")
def emulator(
    data: Path,
    listen: tuple[str, int],
    tls_cert: Path | None,
    tls_key: Path | None,
    as_json: bool,
    log_level: str,
    allow_remote: bool,
) -> None:
    """Run a strict local server of Backblaze B2's native API.

    Example: b2mount emulator --data ./b2 --listen 127.0.0.1:8080

    The first start makes an account and writes its master key to DATA/master-key.json. Stop it with Ctrl-C;
    everything is kept for the next start.
    """
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    try:
        from b2mount.emulator import server, service
    except ImportError as problem:
        raise click.ClickException(
            f"the emulator needs a package that is missing ({problem.name}); install b2mount[emulator]"
        ) from None
    options = server.Options(data, *listen, tls_cert, tls_key, as_json, log_level, allow_remote)
    try:
        server.run(options)
    except server.NotLoopback as problem:
        raise click.ClickException(f"{problem}; add --allow-remote if that is meant") from None
    except (service.DataInUse, OSError) as problem:
        raise click.ClickException(str(problem)) from None
