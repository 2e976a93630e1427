"""The table of a machine's properties, and the classes that have to agree with it."""

from __future__ import annotations

import dataclasses
import inspect

from pulumi_fal.api.models import Instance
from pulumi_fal.compute_cluster import ComputeCluster, ComputeClusterArgs
from pulumi_fal.compute_instance import ComputeInstance, ComputeInstanceArgs
from pulumi_fal.resource import inputs
from pulumi_fal.resource.inputs import CLUSTER_FIELDS, FIELDS


def test_a_program_sets_the_inputs_of_the_table() -> None:
    """The arguments class has exactly the inputs."""
    names = set(inputs.names(lambda field: field.is_input))
    assert {field.name for field in dataclasses.fields(ComputeInstanceArgs)} == names


def test_a_program_reads_the_outputs_of_the_table() -> None:
    """The resource declares exactly the outputs."""
    outputs = set(inputs.names(lambda field: field.is_output))
    assert set(inspect.get_annotations(ComputeInstance)) == outputs


def test_a_cluster_has_the_inputs_of_its_machines_and_the_fields_of_its_own() -> None:
    """The native plugin knows from the table what its component has."""
    inputs = {field.name for field in (*FIELDS, *CLUSTER_FIELDS) if field.is_input}
    assert {field.name for field in dataclasses.fields(ComputeClusterArgs)} == inputs
    outputs = {field.name for field in CLUSTER_FIELDS if field.is_output}
    assert set(inspect.get_annotations(ComputeCluster)) == outputs


def test_an_output_is_an_input_or_comes_from_the_api() -> None:
    """An output that is neither would be in no state."""
    shown = {field.name for field in dataclasses.fields(Instance)}
    assert {field.name for field in FIELDS if not field.is_input} <= shown


def test_only_an_input_replaces_a_machine() -> None:
    """An output changes without the program."""
    assert all(field.is_input for field in FIELDS if field.replaces)


def test_a_late_value_comes_from_the_api() -> None:
    """A value that is unknown in a preview must be one that the API returns."""
    shown = {field.name for field in dataclasses.fields(Instance)}
    assert {field.name for field in FIELDS if field.is_late} <= shown
