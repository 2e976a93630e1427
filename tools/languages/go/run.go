//go:build ignore

// Runs the example whose program.go lies in this folder through the Automation API:
// run up|preview|destroy
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optdestroy"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optpreview"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optup"
)

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, command string) error {
	stack, err := auto.UpsertStackInlineSource(ctx, "dev", "fal-go", program, auto.WorkDir("."))
	if err != nil {
		return err
	}
	switch command {
	case "up":
		up, err := stack.Up(ctx, optup.ProgressStreams(os.Stderr))
		if err != nil {
			return err
		}
		values := map[string]any{}
		for name, output := range up.Outputs {
			values[name] = output.Value
		}
		return json.NewEncoder(os.Stdout).Encode(values)
	case "preview":
		_, err = stack.Preview(ctx, optpreview.ProgressStreams(os.Stderr), optpreview.ExpectNoChanges())
	default:
		_, err = stack.Destroy(ctx, optdestroy.ProgressStreams(os.Stderr))
	}
	return err
}
