"""Stacks in a small Pulumi Cloud (tests/cloud), of the dynamic and of the native provider.

`tester` logs in there, and is a member of the organization `acme` as well.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from ..cloud.service import TOKEN, CloudService
from ..cloud.stacks import Name
from .harness import PULUMI, Stack
from .native import NativeStack


class CloudStack(Stack):
    """A stack of an organization, whose state the service has."""

    organization: str
    service: CloudService

    @property
    def cloud_name(self) -> Name:
        """The stack's name as the service knows it."""
        return (self.organization, "test", self.name)

    @property
    def full_name(self) -> str:
        """The name by which commands find the stack."""
        return "/".join(self.cloud_name)

    def state(self) -> dict[str, Any]:
        """The deployment as the service holds it."""
        return {"resources": self.service.stacks.resources(self.cloud_name)}


class NativeCloudStack(CloudStack, NativeStack):
    """A stack of an organization with machines of the native plugin."""


def cloud_stack(
    kind: type[CloudStack],
    folder: Path,
    endpoint: dict[str, str],
    service: CloudService,
    organization: str,
) -> CloudStack:
    """Make an empty stack `dev` of the project `test`; stacks of one test share a PULUMI_HOME."""
    folder.mkdir(parents=True)
    (folder / "Pulumi.yaml").write_text("name: test\nruntime: python\n")
    stack = kind(folder, endpoint)
    stack.service, stack.organization = service, organization
    stack.home = folder.parent / "home"
    stack.env |= {
        "PULUMI_HOME": str(stack.home),
        "PULUMI_BACKEND_URL": service.url,
        "PULUMI_ACCESS_TOKEN": TOKEN,
    }
    service.stacks.create(stack.cloud_name, {})
    return stack


def log_in(stack: Stack, url: str) -> None:
    """Log in as most people do, with `pulumi login` and no variable."""
    del stack.env["PULUMI_BACKEND_URL"]
    subprocess.run([PULUMI, "login", url], env=stack.env, check=True, capture_output=True)
    del stack.env["PULUMI_ACCESS_TOKEN"]
    assert shutil.which("pulumi", path=stack.env["PATH"]) is None, "the plugin has to find it"
