import * as pulumi from "@pulumi/pulumi";
import * as fal from "@fal-ai/pulumi-fal";

const config = new pulumi.Config();

const cluster = new fal.ComputeCluster(
    "node",
    {
        size: config.requireNumber("size"),
        sshKey: config.require("sshPublicKey"),
    },
    { customTimeouts: { create: "30m" } },
);

export const sector = cluster.sector;
export const ips = cluster.ips;
export const hostfile = cluster.hostfile;
export const sshConfig = cluster.sshConfig;
export const torchrun = cluster.torchrun;
export const statuses = cluster.machines.apply((machines) => pulumi.all(machines.map((machine) => machine.status)));
