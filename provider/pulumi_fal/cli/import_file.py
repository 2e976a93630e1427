"""The command `pulumi-fal import-file`, which writes the input of `pulumi import --file`."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from pulumi_fal.api import models
from pulumi_fal.api.models import Instance
from pulumi_fal.api.settings import AccountId
from pulumi_fal.cli import common
from pulumi_fal.cli.common import Context, Reader, pass_context, stack_option
from pulumi_fal.machines.whose import Whose
from pulumi_fal.resource.inputs import FIELDS, outputs_of
from pulumi_fal.resource.operations import imported
from pulumi_fal.tokens import NATIVE_TYPE_TOKEN, SERIALIZED_PROVIDER, TYPE_TOKEN

DYNAMIC, NATIVE = "dynamic", "native"


@click.command()
@click.option(
    "--type",
    "kind",
    type=click.Choice([DYNAMIC, NATIVE]),
    default=DYNAMIC,
    show_default=True,
    help="The resource type to import: that of the Python package, or that of the native plugin.",
)
@click.option(
    "--ssh-key",
    "key_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The file with the public key of the machines, because the API does not return it.",
)
@stack_option
@click.option(
    "--output",
    "-o",
    default="fal-import.json",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.",
)
@click.option(
    "--pin-sectors",
    is_flag=True,
    help="Request the sectors that the machines are in, instead of none.",
)
@common.yes_option
@pass_context
def import_file(
    context: Context,
    kind: str,
    key_file: Path,
    stacks: tuple[str, ...],
    output: Path,
    pin_sectors: bool,
    yes: bool,
) -> None:
    """Write a file that imports machines in no stack.

    The file is for `pulumi import --file`. This command imports nothing itself. It prints the
    command that imports the machines, and the matching lines for the program. It stops if a stack
    can't be read, because a machine must not be in two stacks.
    """
    ssh_key = _read_key(key_file)
    try:  # before the stacks are read, which takes long
        has_folder, is_there = output.parent.is_dir(), output.exists()
    except OSError as error:
        raise _cannot_be_written(output, error) from None
    if not has_folder:
        raise click.ClickException(f"There is no folder {output.parent}. Make it, or name another.")
    listed, reader = context.client().list_instances(), Reader(context, stacks)
    instances = _unclaimed(reader, listed)
    if instances and is_there and not yes:
        click.confirm(f"{output} exists. Overwrite it?", abort=True)
        instances = _unclaimed(reader, instances)  # a stack may have imported one meanwhile
    if not instances:
        common.print_lines("There is nothing to import: every machine is in a stack or pending.")
        return
    resources = []
    for name, instance in _named(instances):
        inputs = {"instance_type": instance.instance_type, "ssh_key": ssh_key}
        if pin_sectors and instance.sector:
            inputs["sector"] = instance.sector
        account_id = context.settings.account_id
        row = _native(inputs) if kind == NATIVE else _dynamic(instance, inputs, account_id)
        resources.append({"name": name, "id": instance.id, **row})
    if kind == NATIVE:
        where, lines = "a YAML program, or the same in another language", _yaml(resources, ssh_key)
    else:
        where, lines = "the program", _python(resources, key_file)
    try:
        output.write_text(json.dumps({"resources": resources}, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise _cannot_be_written(output, error) from None
    count = f"{len(resources)} machine{'s' * (len(resources) != 1)}"
    common.print_lines(
        f"Wrote {count} to {output}. To import into the selected stack, run:\n\n"
        f"  pulumi import --file {shlex.quote(str(output))} --generate-code=false\n\n"
        f"Then add these lines to {where}:\n\n{lines}"
    )


def _unclaimed(reader: Reader, listed: Sequence[Instance]) -> list[Instance]:
    evidence = reader.read(listed)
    if evidence.unread:
        reasons = "".join(f"\n  {what}: {why}" for what, why in evidence.unread.items())
        raise click.ClickException(
            "The machines that are in no stack are not known, because these could not be read:"
            f"{reasons}\nCorrect that. If none of these can have a machine, name all others with "
            "--stack: a machine of one that you don't name counts as being in no stack."
        )
    rows = evidence.whose(listed)
    for row in rows:
        if row.claim is not None and row.claim.entry is not None:
            common.print_lines(
                f"Left out: {row.instance}, which may belong to the pending create "
                f"of {row.claim.urn}. Run `pulumi-fal pending ls` for details.",
                err=True,
            )
    return sorted(
        (row.instance for row in rows if row.whose is Whose.FORGOTTEN),
        key=lambda instance: (instance.instance_type, instance.id),
    )


def _read_key(file: Path) -> str:
    text = file.read_text(encoding="utf-8", errors="replace").strip()
    if models.is_private_key(text):
        raise click.ClickException(
            f"The content of {file} is a PRIVATE key, which must not leave your computer, and was "
            "not sent. Name the file of the public key, which ends in .pub."
        )
    try:
        models.parse_key(text)
    except ValueError as error:
        raise click.ClickException(f"The content of {file} {error}") from None
    return text


def _cannot_be_written(output: Path, error: OSError) -> click.ClickException:
    return click.ClickException(f"{output} can't be written: {error.strerror}.")


def _named(instances: Sequence[Instance]) -> list[tuple[str, Instance]]:
    """Return each machine with a unique name that is the same in every run."""
    slugs = {instance.id: re.sub(r"[^a-z0-9]+", "-", instance.id.lower()) for instance in instances}
    prefixes = Counter(slug[:8] for slug in slugs.values())
    named = []
    for instance in instances:
        slug = slugs[instance.id]
        suffix = slug[:8].strip("-") if prefixes[slug[:8]] == 1 else slug
        named.append((f"{instance.instance_type.replace('_', '-')}-{suffix}", instance))
    return named


def _dynamic(
    instance: Instance, inputs: Mapping[str, str], account_id: AccountId
) -> dict[str, Any]:
    """Return the type, and the outputs as well, so that the import needs no read.

    The engine's read of an import contains no serialized provider, so it would fail.
    """
    provider = {"__provider": SERIALIZED_PROVIDER}
    shown = imported(outputs_of(instance, inputs, account_id), is_finished=instance.is_ready)
    return {
        "type": TYPE_TOKEN,
        "inputs": {**provider, **inputs},
        "outputs": {**provider, **shown},
    }


def _native(inputs: Mapping[str, str]) -> dict[str, Any]:
    """Return the type. The engine reads the machine, but the API does not return its key."""
    return {
        "type": NATIVE_TYPE_TOKEN,
        "inputs": {field.camel: inputs[field.name] for field in FIELDS if field.name in inputs},
    }


def _yaml(resources: Sequence[dict[str, Any]], ssh_key: str) -> str:
    # A JSON string is a YAML string, whatever characters it contains.
    lines = ["variables:", f"  sshKey: {json.dumps(ssh_key)}", "resources:"]
    for resource in resources:
        lines += [f"  {resource['name']}:", f"    type: {resource['type']}", "    properties:"]
        for name, value in resource["inputs"].items():
            lines.append(f"      {name}: {'${sshKey}' if name == 'sshKey' else json.dumps(value)}")
    return "\n".join(lines)


def _python(resources: Sequence[dict[str, Any]], key_file: Path) -> str:
    lines = ["from pathlib import Path", "", "from pulumi_fal import ComputeInstance", ""]
    lines.append(f"ssh_key = Path({str(key_file)!r}).read_text()")
    for resource in resources:
        inputs = resource["inputs"]
        arguments = [f"instance_type={inputs['instance_type']!r}", "ssh_key=ssh_key"]
        if "sector" in inputs:
            arguments.append(f"sector={inputs['sector']!r}")
        lines.append(f"ComputeInstance({resource['name']!r}, {', '.join(arguments)})")
    return "\n".join(lines)
