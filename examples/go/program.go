package main

import (
	"github.com/fal-ai/pulumi-fal/sdk/go/fal"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
)

func program(ctx *pulumi.Context) error {
	machine, err := fal.NewComputeInstance(ctx, "machine", &fal.ComputeInstanceArgs{
		InstanceType: pulumi.String(fal.InstanceTypeGpu1xH100Sxm5),
		SshKey:       pulumi.String(config.Require(ctx, "sshPublicKey")),
	}, pulumi.Timeouts(&pulumi.CustomTimeouts{Create: "30m"}))
	if err != nil {
		return err
	}
	found := fal.GetInstanceOutput(ctx, fal.GetInstanceOutputArgs{Id: machine.ID().ToStringOutput()})

	ctx.Export("id", machine.ID())
	ctx.Export("ssh", pulumi.Sprintf("ssh ubuntu@%s", machine.Ip))
	ctx.Export("status", found.Status())
	return nil
}
