"""What SkyPilot and dstack make of the files by which they find machines: `nox -s schedulers`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pulumi_fal.hosts import access

IPS = ["198.18.0.1", "2001:db8::1"]
NAMES = ("train", "on", "8 Train/x", "x", "a" * 50)


def skypilot(name: str, key: Path) -> None:
    """As `sky ssh up` does with the file, up to where it logs in."""
    from sky.ssh_node_pools import utils

    Path("pools.yaml").write_text(access.skypilot(name, IPS))
    pools = utils.get_cluster_config(utils.load_ssh_targets("pools.yaml"))
    ((pool, config),) = pools.items()
    machine = {"user": "ubuntu", "identity_file": str(key), "password": "", "use_ssh_config": False}
    assert utils.prepare_hosts_info(pool, config) == [{"ip": ip, **machine} for ip in IPS]


def dstack(name: str, key: Path) -> None:
    """As `dstack apply` does with the file, up to where it asks the server."""
    from dstack._internal.cli.services.configurators import fleet, load_apply_configuration
    from dstack._internal.core.models.fleets import FleetSpec
    from dstack._internal.core.models.profiles import Profile
    from dstack._internal.core.services import validate_dstack_resource_name

    Path("fleet.dstack.yml").write_text(access.dstack(name, IPS, ["sector_1"]))
    _, configuration = load_apply_configuration("fleet.dstack.yml")
    validate_dstack_resource_name(configuration.name)
    spec = FleetSpec(configuration=configuration, profile=Profile(name="default"))
    fleet._preprocess_spec(spec)
    assert configuration.placement == "cluster"
    assert spec.configuration.ssh_config.ssh_key.private == key.read_text()
    assert (configuration.ssh_config.user, configuration.ssh_config.hosts) == ("ubuntu", IPS)


if __name__ == "__main__":
    os.chdir(Path.home())
    key = Path(access.IDENTITY).expanduser()
    key.parent.mkdir(exist_ok=True)
    key.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    for name in NAMES:
        {"skypilot": skypilot, "dstack": dstack}[sys.argv[1]](name, key)
    print(f"{sys.argv[1]} reads the files of {len(NAMES)} names.")
