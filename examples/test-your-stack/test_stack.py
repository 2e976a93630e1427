"""Create and destroy the whole stack on an emulator of fal Compute, without a key or a bill."""

from pathlib import Path

from pulumi import automation

from pulumi_fal.emulator.server import EmulatorServer

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + 43 * "A"  # has no private key


def test_the_stack_has_one_machine_and_leaves_none(
    fal_emulator: EmulatorServer, tmp_path: Path
) -> None:
    env = {"PULUMI_BACKEND_URL": f"file://{tmp_path}", "PULUMI_CONFIG_PASSPHRASE": "test"}
    options = automation.LocalWorkspaceOptions(env_vars=env)
    stack = automation.create_stack("test", work_dir=str(Path(__file__).parent), opts=options)
    try:
        stack.set_config("sshPublicKey", automation.ConfigValue(SSH_KEY))
        up = stack.up()
        (machine,) = fal_emulator.state.list()
        assert up.outputs["ip"].value == machine.ip
        stack.up(expect_no_changes=True)
    finally:
        stack.destroy(remove=True)
    assert fal_emulator.state.alive() == set()
