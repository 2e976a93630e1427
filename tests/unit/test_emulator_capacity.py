"""How the emulator refuses a create for want of room, and what the provider makes of each form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pulumi_fal.api import retry
from pulumi_fal.api.client import Client
from pulumi_fal.api.models import NewInstance
from pulumi_fal.api.settings import Settings, resolve
from pulumi_fal.emulator.faults import fault
from pulumi_fal.emulator.server import EmulatorServer
from pulumi_fal.emulator.state import CAPACITY_ANSWERS
from pulumi_fal.errors import APIError

from ..fakes import ED25519, EIGHT, ONE

DOCS = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text()


@pytest.fixture(params=["legacy", "v1"])
def emulator(request: pytest.FixtureRequest) -> Iterator[EmulatorServer]:
    with EmulatorServer(api=request.param) as emulator:
        yield emulator


def settings(emulator: EmulatorServer) -> Settings:
    return resolve(emulator.env, lambda key: None)


def refused(emulator: EmulatorServer, sector: str | None = None) -> APIError:
    """What a client gets for a create, without retries."""
    with pytest.raises(APIError) as caught:
        Client(settings(emulator)).within(0).create_instance(NewInstance(EIGHT, ED25519, sector))
    return caught.value


def control(emulator: EmulatorServer, body: object) -> requests.Response:
    return requests.post(f"{emulator.url}/_emulator/capacity", json=body, timeout=10)


def test_each_answer_is_recognized_if_it_certainly_made_nothing(emulator: EmulatorServer) -> None:
    """Both APIs, with and without a sector. A 5xx may have made a machine."""
    for status in CAPACITY_ANSWERS:
        emulator.state.capacity_status = status
        for emulator.state.capacity, emulator.state.sector_capacity in ((0, None), (None, 0)):
            for sector in (None, "sector_2"):
                error = refused(emulator, sector)
                assert error.status == status
                assert retry.lacks_capacity(error) is (status != 503), error
                assert retry.may_have_made_a_machine(error) is (status == 503)
                assert error.retry_after == (20.0 if status == 429 else None)
    assert emulator.state.creations == 0


def test_the_fault_is_recognized_as_well(emulator: EmulatorServer) -> None:
    """It is for scripts: a create that is refused so many times."""
    emulator.faults.add("create", fault("no_room"))
    assert retry.lacks_capacity(refused(emulator))


def test_a_control_sets_the_capacity_and_frees_it(emulator: EmulatorServer) -> None:
    """The report says how much there is."""
    assert control(emulator, {"machines": 0, "status": 409}).ok
    assert refused(emulator).status == 409
    report = requests.get(f"{emulator.url}/_emulator/report", timeout=10).json()
    assert report["capacity"] == {"machines": 0, "in_sector": None, "status": 409}
    assert control(emulator, {"in_sector": 0}).ok
    assert refused(emulator, "sector_2").status == 400
    Client(settings(emulator)).create_instance(NewInstance(ONE, ED25519))
    assert control(emulator, {}).ok
    Client(settings(emulator)).create_instance(NewInstance(EIGHT, ED25519))


@pytest.mark.parametrize("body", [{"machines": -1}, {"in_sector": "many"}, {"status": 418}])
def test_an_invalid_capacity_is_refused_and_changes_nothing(body: object) -> None:
    """Nothing is changed then."""
    with EmulatorServer() as emulator:
        emulator.state.capacity = 5
        assert control(emulator, body).status_code == 422
        assert (emulator.state.capacity, emulator.state.capacity_status) == (5, 400)


def test_the_docs_have_every_answer_word_by_word() -> None:
    """A person looks up there what a status stands for."""
    section = DOCS.partition("## Capacity")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"(?m)^\| (\d+).*? \| `(.+?)`", section))
    what = f"for {ONE}"
    assert rows == {str(status): text.format(what) for status, text in CAPACITY_ANSWERS.items()}
