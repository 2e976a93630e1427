"""The command group `pulumi-fal`, how it reports errors, and the check of a computer's setup."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import click
from rich.text import Text

from pulumi_fal._version import __version__
from pulumi_fal.cli import common
from pulumi_fal.cli.audit import audit
from pulumi_fal.cli.common import Context, pass_context
from pulumi_fal.cli.delete import delete
from pulumi_fal.cli.import_file import import_file
from pulumi_fal.cli.machines import get, list_, ssh, ssh_config
from pulumi_fal.cli.pending import is_in_state, pending
from pulumi_fal.errors import AuthenticationError, FalError, JournalError
from pulumi_fal.stacks import state

OK, MISSING, UNTESTED, BAD = "ok", "missing", "untested", "bad"
"""The verdicts. MISSING is for what the provider can do without."""
_COLOURS = {OK: "green", MISSING: "yellow", UNTESTED: "yellow", BAD: "red"}
OLDEST_SDK, NEWEST_SDK = (3, 260), (3, 272)
"""The versions of Pulumi's Python SDK that all tests of a release run with."""


_PLUGIN = "pulumi-resource-fal"
_SECONDS = 20.0
"""For the plugin to start and answer."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    what: str
    verdict: str
    says: str


@click.command()
@common.json_option
@pass_context
def doctor(context: Context, as_json: bool) -> None:
    """Check key, endpoint, versions, journal and plugins.

    The key is never shown. The only call to the API is a list of machines. The exit code is 1 if
    a check is bad.
    """
    findings = [
        *_versions(),
        *_account(context),
        _backend(context),
        _checked("journal", lambda: _journal(context)),
        _native(),
    ]
    if as_json:
        common.print_json([asdict(finding) for finding in findings])
    else:
        common.print_table(
            ("CHECK", "VERDICT", "DETAILS"),
            (
                (finding.what, Text(finding.verdict, style=_COLOURS[finding.verdict]), finding.says)
                for finding in findings
            ),
        )
    sys.exit(any(finding.verdict == BAD for finding in findings))


def _versions() -> Iterator[Finding]:
    yield Finding("pulumi-fal", OK, __version__)
    yield Finding("Python", OK, f"{platform.python_version()}, {sys.executable}")
    yield _sdk(metadata.version("pulumi"))
    yield _checked("pulumi CLI", lambda: state.pulumi("version").strip())


def _sdk(version: str) -> Finding:
    """Check the SDK's version, because the provider patches the SDK's process for its plugins."""
    minor = tuple(map(int, version.split(".")[:2]))
    verdict = OK if OLDEST_SDK <= minor <= NEWEST_SDK else UNTESTED
    oldest, newest = ("{}.{}".format(*tested) for tested in (OLDEST_SDK, NEWEST_SDK))
    return Finding("pulumi SDK", verdict, f"{version}; tested with {oldest} to {newest}")


def _account(context: Context) -> Iterator[Finding]:
    key = _checked("API key", lambda: f"from {context.settings.key_source}")
    yield key
    if key.verdict == BAD:
        return
    settings = context.settings
    yield Finding("endpoint", OK, f"{settings.endpoint} ({settings.api} API)")
    yield Finding("account", OK, settings.account)
    yield _checked("API", lambda: _api(context))


def _api(context: Context) -> str:
    try:
        count = len(context.account.client.list_instances())
    except AuthenticationError as error:
        raise FalError(f"reached, but it refuses the key: {error}") from None
    return f"accepts the key; machines: {count}"


def _backend(context: Context) -> Finding:
    """Check that the backend is known, by which stacks of the same name are told apart."""
    url = context.stacks.backend
    if not url:
        without = "an interrupted create may need help; log in or set PULUMI_BACKEND_URL"
        return Finding("Pulumi backend", MISSING, f"not known: {without}")
    return Finding("Pulumi backend", OK, url)


def _journal(context: Context) -> str:
    """Check that the journal can be used, because no machine is created without it."""
    folder, pending = context.journal.folder, 0
    for entry in context.journal.entries():
        if isinstance(entry, JournalError):
            raise entry
        pending += not is_in_state(entry, context.stacks)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise FalError(f"{folder} can't be written, so no machine can be created")
    more = ", see `pulumi-fal pending ls`" if pending else ""
    return f"{folder}; pending creates: {pending}{more}"


def _native() -> Finding:
    """Check the plugin for programs in other languages. Python programs need none."""
    path = shutil.which(_PLUGIN)
    if path is None:
        without = "programs that don't use the Python package need it, see docs/native-plugin.md"
        return Finding("native plugin", MISSING, f"{_PLUGIN} is not on PATH: {without}")
    try:
        version = _version_of(path)
    except OSError as error:
        return Finding("native plugin", BAD, str(error))
    if version != __version__:
        says = f"{path} has version {version}, but this is version {__version__}"
        return Finding("native plugin", MISSING, says)
    return Finding("native plugin", OK, f"{version}, {path}")


def _checked(what: str, find: Callable[[], str]) -> Finding:
    try:
        return Finding(what, OK, find())
    except FalError as error:
        return Finding(what, BAD, str(error))


def _version_of(path: str) -> str:
    """Return the version that the plugin says. Raises OSError if it does not start."""
    nowhere = subprocess.DEVNULL
    try:
        ended = subprocess.run(
            [path, "--version"], stdin=nowhere, capture_output=True, timeout=_SECONDS, check=True
        )
    except subprocess.SubprocessError:
        raise OSError(f"{path} does not start") from None
    return ended.stdout.decode(errors="replace").strip()


class Cli(click.Group):
    """A command group that prints the message of an error, and no traceback, unless it is a bug."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (FalError, OSError, click.ClickException) as error:
            if isinstance(error, (click.UsageError, BrokenPipeError)):  # click ends with these
                raise
            raise click.ClickException(common.plain(str(error))) from None


@click.group("pulumi-fal", cls=Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pulumi-fal")
def main() -> None:
    """Show and delete machines on fal Compute, and find those that are in no stack.

    The commands use the key and the endpoint that the provider uses: those in the environment, or
    else in the config of the stack that is selected in the current folder.

    Exit codes: 0 for success, 1 if a command is refused or fails, 2 for wrong usage. `audit` has
    its own.
    """


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def emulator(arguments: tuple[str, ...]) -> None:
    """Run an emulator of fal Compute. Its machines cost nothing."""
    from pulumi_fal.emulator import __main__ as server

    server.main(arguments)


for command in (list_, get, delete, ssh, ssh_config, pending, audit, import_file, doctor, emulator):
    main.add_command(command)

if __name__ == "__main__":
    main()
