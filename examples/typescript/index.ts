import * as pulumi from "@pulumi/pulumi";
import * as fal from "@fal-ai/pulumi-fal";

const config = new pulumi.Config();

const machine = new fal.ComputeInstance(
    "machine",
    {
        instanceType: fal.InstanceType.Gpu1xH100Sxm5,
        sshKey: config.require("sshPublicKey"),
    },
    { customTimeouts: { create: "30m" } },
);

export const id = machine.id;
export const ssh = pulumi.interpolate`ssh ubuntu@${machine.ip}`;
export const status = fal.getInstanceOutput({ id: machine.id }).status;
