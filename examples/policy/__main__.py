"""A policy pack for stacks with machines of fal Compute, whichever provider manages them.

The machines of a cluster are resources of their own, so they count and are checked like any other.
"""

import os

from pulumi_policy import (
    EnforcementLevel,
    PolicyConfigSchema,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

INSTANCE_TYPES = {
    "pulumi-python:dynamic/fal:ComputeInstance": "instance_type",
    "fal:index:ComputeInstance": "instanceType",
}
"""The types of machines, each with the name of its input that says how many GPUs there are."""
STACKS, MAXIMUM = ["dev"], 4
"""The limits of a stack whose configuration of this pack sets no others. The costs have none."""


def is_8x(args: ResourceValidationArgs) -> bool:
    """Whether the resource is a machine with eight GPUs."""
    name = INSTANCE_TYPES.get(args.resource_type)
    return name is not None and "_8x_" in str(args.props.get(name))


def refuse_8x_in_dev(args: ResourceValidationArgs, report_violation: ReportViolation) -> None:
    """No stack with one of the configured names may have a machine with eight GPUs."""
    stack = args.urn.removeprefix("urn:pulumi:").partition("::")[0]
    if stack in args.get_config().get("stacks", STACKS) and is_8x(args):
        report_violation(f"{args.name} has eight GPUs, which the stack {stack} may not have.")


def require_protect_on_8x(args: ResourceValidationArgs, report_violation: ReportViolation) -> None:
    """A machine with eight GPUs must be protected, so that nothing deletes it by accident."""
    if is_8x(args) and not args.opts.protect:
        report_violation(f"{args.name} has eight GPUs: set the resource option `protect`.")


def limit_machines(args: StackValidationArgs, report_violation: ReportViolation) -> None:
    """A stack may have only so many machines."""
    maximum = args.get_config().get("maximum", MAXIMUM)
    machines = sorted(
        resource.name for resource in args.resources if resource.resource_type in INSTANCE_TYPES
    )
    if len(machines) > maximum:
        names = ", ".join(machines)
        report_violation(f"The stack has {len(machines)} machines, not {maximum:g}: {names}.")


def limit_hourly_cost(args: StackValidationArgs, report_violation: ReportViolation) -> None:
    """A stack's machines may cost only so much an hour, by the prices in the environment."""
    maximum = args.get_config().get("maxHourlyCost")
    if maximum is None:
        return
    text = os.environ.get("FAL_COMPUTE_PRICES", "").replace(" ", "")
    prices = dict(part.split("=") for part in text.split(",") if part)
    types = [
        str(resource.props.get(INSTANCE_TYPES[resource.resource_type]))
        for resource in args.resources
        if resource.resource_type in INSTANCE_TYPES
    ]
    if unknown := sorted({type_ for type_ in types if type_ not in prices}):
        report_violation(f"FAL_COMPUTE_PRICES has no price of {', '.join(unknown)}.")
    cost = sum(float(prices.get(type_, 0)) for type_ in types)
    if cost > maximum:
        report_violation(f"The machines cost {cost:.2f} an hour, more than {maximum:.2f}.")


PolicyPack(
    name="fal-compute",
    enforcement_level=EnforcementLevel.MANDATORY,
    policies=[
        ResourceValidationPolicy(
            name="no-8x-in-dev",
            description="Stacks for development have no machines with eight GPUs.",
            validate=refuse_8x_in_dev,
            config_schema=PolicyConfigSchema(
                properties={"stacks": {"type": "array", "items": {"type": "string"}}}
            ),
        ),
        ResourceValidationPolicy(
            name="protect-8x",
            description="Machines with eight GPUs are protected.",
            validate=require_protect_on_8x,
        ),
        StackValidationPolicy(
            name="few-machines",
            description="A stack has only a few machines.",
            validate=limit_machines,
            config_schema=PolicyConfigSchema(
                properties={"maximum": {"type": "integer", "minimum": 0}}
            ),
        ),
        StackValidationPolicy(
            name="hourly-cost",
            description="The machines of a stack cost only so much an hour.",
            validate=limit_hourly_cost,
            config_schema=PolicyConfigSchema(
                properties={"maxHourlyCost": {"type": "number", "minimum": 0}}
            ),
        ),
    ],
)
