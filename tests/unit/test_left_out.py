"""A program that leaves out a required input."""

from __future__ import annotations

from typing import Any

import pulumi

from pulumi_fal import ComputeInstance

from .programs import WITH_MOCKS, set_mocks

pytestmark = WITH_MOCKS


class Mocks(pulumi.runtime.Mocks):
    """Keeps the inputs of the resources that are registered."""

    def __init__(self) -> None:
        self.inputs: list[dict[Any, Any]] = []

    def new_resource(
        self, args: pulumi.runtime.MockResourceArgs
    ) -> tuple[str | None, dict[Any, Any]]:
        self.inputs.append(args.inputs)
        return "id", args.inputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
        raise AssertionError(f"{args.token} was called")


def test_a_required_input_that_is_left_out_reaches_check_which_names_it() -> None:
    """Python raises no TypeError for it, so a preview can show all problems at once."""
    mocks = Mocks()
    set_mocks(mocks)

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def declare() -> pulumi.Output[str]:
        return ComputeInstance("machine", instance_type="gpu_1x_h100_sxm5").urn  # type: ignore[call-overload, no-any-return]

    declare()
    (inputs,) = mocks.inputs
    assert inputs.get("ssh_key") is None
