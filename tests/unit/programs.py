"""What tests of programs under Pulumi's own mocks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pulumi
import pytest

# Of Pulumi's own set_mocks, on Python 3.12 and later.
WITH_MOCKS = pytest.mark.filterwarnings("ignore:There is no current event loop:DeprecationWarning")

Test = Callable[..., pulumi.Output[None]]

pulumi_test: Callable[[Test], Test] = pulumi.runtime.test  # which has no types


class KeepingMocks(pulumi.runtime.Mocks):
    """Keeps what was asked, by the resource's name. A subclass answers."""

    def __init__(self) -> None:
        self.asked: dict[str, pulumi.runtime.MockResourceArgs] = {}

    def call(self, args: pulumi.runtime.MockCallArgs) -> Any:
        raise AssertionError(f"{args.token} was called")
