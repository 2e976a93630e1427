"""The command `pulumi-fal emulator`, which runs the emulator in the foreground."""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import sys
import threading
from typing import TYPE_CHECKING

from pulumi_fal.api.settings import PRICES, prices
from pulumi_fal.emulator import INSTALL
from pulumi_fal.emulator.faults import Faults
from pulumi_fal.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pulumi_fal.emulator.server import EmulatorServer


def main(argv: Sequence[str] | None = None) -> None:
    """Run the emulator until SIGINT or SIGTERM, or exit with a message if it can't start."""
    options = _options(argv)
    try:
        from pulumi_fal.emulator.server import EmulatorServer
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn"):
            raise
        sys.exit(f"The emulator needs {error.name}. To install it:\n  {INSTALL}")
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, lambda *_: sys.exit())
    api_key = os.environ.get("FAL_ADMIN_API_KEY") or None
    try:
        emulator = EmulatorServer(
            provisioning=options.provisioning,
            deletion=options.deletion,
            latency=options.latency,
            api_key=api_key,
            host=options.host,
            port=options.port,
            allowed_hosts=options.allow_host,
            api=options.api,
            prices=options.prices,
            say=lambda line: print(line, flush=True),
        )
    except OSError as error:
        # Python appends in brackets what this sentence says already.
        reason = (error.strerror or "").partition(" (")[0]
        sys.exit(
            f"The emulator can't listen on {options.host}, port {options.port}: {reason}. "
            + _advice(error)
        )
    emulator.state.capacity = options.capacity
    for line in options.fault:
        emulator.faults.script(line)
    with emulator:
        print(f"fal Compute emulator on {emulator.url}")
        # A comment beside an export would be no comment where zsh reads what is pasted.
        if api_key:
            print("Only the key in this terminal's FAL_ADMIN_API_KEY is accepted.")
        else:
            print("Any key is accepted; each sees its own machines.")
        print(emulator.exports, flush=True)
        if not emulator.address.is_loopback:
            print(_from_elsewhere(emulator), flush=True)
        threading.Event().wait()


def _advice(error: OSError) -> str:
    if error.errno in (errno.EADDRINUSE, errno.EACCES):
        return "Choose another --port, or 0 for any free port."
    return (
        "Choose as --host an address of this computer: 127.0.0.1 or ::1 for itself, 0.0.0.0 or :: "
        "for all of its addresses."
    )


def _from_elsewhere(emulator: EmulatorServer) -> str:
    """Return comments for the shell, which say how a provider can use another address."""
    host = emulator.url.removeprefix("http://")
    port = host.rpartition(":")[2]
    endpoint = emulator.endpoint.replace(host, f"127.0.0.1:{port}")
    return (
        f"# It listens on {emulator.address}. The provider uses plain http with loopback addresses"
        " only.\n"
        f"# On another computer, forward the port, and use the endpoint {endpoint}:\n"
        f"#     ssh -N -L {port}:{host} THIS_COMPUTER\n"
        "# In another container, share this one's network, as docs/emulator.md says."
    )


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    several = "; may be given several times"
    # argparse parses a default that is text as it parses what the option is given.
    priced = os.environ.get(PRICES.variable)
    parser = argparse.ArgumentParser(
        prog="pulumi-fal emulator",
        description="An emulator of fal Compute: machines that cost nothing.",
        epilog="If FAL_ADMIN_API_KEY is set, calls must use that key. Otherwise any key is"
        " accepted, and each sees its own machines.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for name, parse, default, shown, meaning in (
        ("host", str, "127.0.0.1", "ADDRESS", "the address to listen on; 0.0.0.0 or :: for all"),
        ("port", _port, 8900, "PORT", "the port to listen on; 0 for any free port"),
        ("allow-host", _name, [], "NAME", "another name of it, such as its proxy's" + several),
        ("provisioning", float, 20.0, "SECONDS", "seconds from a create until a machine is ready"),
        ("deletion", float, 2.0, "SECONDS", "seconds for which a deleted machine still exists"),
        ("latency", float, 0.0, "SECONDS", "seconds that every call takes at least"),
        ("capacity", int, None, "N", "the number of machines at which creates are refused"),
        ("fault", _fault, [], "CALL=FAULT[:SETTING=VALUE,...]", "a fault for a call" + several),
        ("prices", _prices, priced, "TYPE=PRICE,...", "prices an hour, for the page's counter"),
    ):
        parser.add_argument(
            f"--{name}",
            action="append" if default == [] else "store",
            type=parse,
            default=default,
            metavar=shown,
            help=meaning,
        )
    parser.add_argument(
        "--api",
        choices=("legacy", "v1"),
        default="legacy",
        help="the API whose endpoint is printed; the emulator always serves both",
    )
    return parser.parse_args(argv)


def _port(text: str) -> int:
    # It must not end in ValueError, or argparse would print this function's name.
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port; ports go from 0 to 65535")
    return int(text)


def _name(text: str) -> str:
    if not re.fullmatch(r"[\w.-]+|\[[\da-fA-F:.]+\]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no host's name or address without a port")
    return text


def _prices(text: str) -> Mapping[str, float]:
    try:
        return prices({PRICES.variable: text}, lambda key: None)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _fault(line: str) -> str:
    try:
        Faults().script(line)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return line


if __name__ == "__main__":
    main()
