// Runs the example in this folder through the Automation API: run.js up|preview|destroy
import { LocalWorkspace } from "@pulumi/pulumi/automation";

async function main(command: string) {
    const stack = await LocalWorkspace.createOrSelectStack(
        { stackName: "dev", projectName: require("../package.json").name, program: async () => require("./index") },
        { workDir: process.cwd() },
    );
    const onOutput = (text: string) => process.stderr.write(text);
    if (command === "up") {
        await stack.up({ onOutput });
        const outputs = await stack.outputs();
        console.log(JSON.stringify(Object.fromEntries(Object.entries(outputs).map(([k, v]) => [k, v.value]))));
    } else if (command === "preview") {
        await stack.preview({ onOutput, expectNoChanges: true });
    } else {
        await stack.destroy({ onOutput });
    }
}

main(process.argv[2]).catch((error) => {
    console.error(error);
    process.exit(1);
});
