"""The benchmarks: the two that ours is measured against do the work, and the figures add up."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks import __main__ as benchmark
from benchmarks import direct, naive
from benchmarks.measure import (
    CLUSTER,
    DIRECT,
    FOLLOWING,
    INSTANCE,
    KINDS,
    NAIVE,
    NATIVE,
    NATIVE_CLUSTER,
    OURS,
    V1,
    WAITING,
    Command,
    Run,
)
from benchmarks.results import BOUNDS, MEMORY, UP, UP_POLLS, Results, verdicts

from pulumi_fal.emulator.server import EmulatorServer


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorServer]:
    for module in (naive, direct):
        monkeypatch.setattr(module, "INTERVAL", 0.02)
    with EmulatorServer(provisioning=0.1, deletion=0.05) as server:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        yield server


def made_up(
    who: str,
    machines: int,
    up: float,
    polls: int = 5,
    memory: float | None = 50.0,
    refused: int = 0,
) -> Run:
    calls = dict.fromkeys(KINDS, 0)
    commands = {
        "up": Command(up, {**calls, "create": machines + refused, "list": polls}),
        "refresh": Command(1.0, {**calls, "list": 2}),
        "destroy": Command(3.0, {**calls, "delete": machines, "list": 1, "get": 1}),
    }
    return Run(who, machines, commands, in_flight=4, memory=memory)


def of_runs(*runs: Run) -> Results:
    results = Results()
    for run in runs:
        results.add(run)
    return results


def test_the_naive_provider_makes_reads_and_deletes_a_machine(api: EmulatorServer) -> None:
    """The baseline really makes, reads and deletes a machine."""
    provider = naive.MachineProvider()
    made = provider.create(dict(INSTANCE))
    assert api.state.alive() == {made.id}
    assert made.outs is not None
    assert (made.outs["status"], made.outs["ssh_key"]) == ("ready", INSTANCE["ssh_key"])
    read = provider.read(made.id, dict(made.outs))
    assert read.outs == made.outs
    provider.delete(made.id, dict(made.outs))
    assert api.state.alive() == set()
    assert provider.read(made.id, {}).id == ""


def test_the_naive_provider_asks_for_its_own_machine_only(api: EmulatorServer) -> None:
    """The baseline sends one GET at each interval, and nothing else."""
    naive.MachineProvider().create(dict(INSTANCE))
    assert api.state.calls["create"] == 1
    assert api.state.calls["list"] == 0
    assert api.state.calls["get"] >= 2


def test_the_direct_client_has_one_poll_for_all(api: EmulatorServer) -> None:
    """The lower bound is a POST and a DELETE for each machine, and one poll for all."""
    client = direct.Direct(api.env, 8, INSTANCE)
    client.up()
    ready = [machine.status for machine in api.state.list()]
    assert ready == ["ready"] * 8
    client.refresh()
    client.destroy()
    assert api.state.alive() == set()
    assert api.state.calls["create"] == api.state.calls["delete"] == 8
    assert api.state.calls["get"] == 0


def test_a_figure_is_the_median_of_its_runs() -> None:
    """A run that another process disturbed doesn't count."""
    results = of_runs(*(made_up(OURS, 1, up) for up in (10.0, 11.0, 60.0)))
    assert results.value(OURS, 1, UP) == 11.0
    assert results.value(NAIVE, 1, UP) is None


def test_a_ratio_that_a_run_lacks_is_none() -> None:
    """A ratio is left out where a run has no figure for it."""
    results = of_runs(made_up(OURS, 4, 12.0), made_up(DIRECT, 4, 10.0, memory=None))
    assert results.ratio(UP, (OURS, 4), (DIRECT, 4)) == pytest.approx(1.2)
    assert results.ratio(MEMORY, (DIRECT, 4), (OURS, 4)) is None
    assert results.ratio(UP, (OURS, 4), (OURS, 1)) is None


def test_each_bound_gets_its_verdict() -> None:
    """Two sizes give eight rows, and each is compared with its bound."""
    results = of_runs(
        made_up(OURS, 1, 10.0, polls=6),
        *(made_up(OURS, n, 10.5, polls=7) for n in (16, 64)),
        *(made_up(DIRECT, n, 10.0) for n in (16, 64)),
        *(made_up(NATIVE, n, 10.5) for n in (16, 64)),
        *(made_up(NATIVE_CLUSTER, n, 11.5) for n in (16, 64)),
        made_up(NAIVE, 16, 41.0),
        made_up(NAIVE, 64, 170.0),
        made_up(CLUSTER, 1, 10.0),
        made_up(CLUSTER, 8, 11.0),
        made_up(FOLLOWING, 8, 21.0),
        made_up(WAITING, 1, 75.0, refused=30),
        made_up(WAITING, 64, 76.0, refused=33),
    )
    said = list(verdicts(results))
    assert len(said) == len(BOUNDS) == 21
    assert all(verdict.is_reached for verdict in said)


def test_a_bound_that_is_missed_is_said_to_be() -> None:
    """A run that is too slow or makes too many calls misses its bound."""
    results = of_runs(
        made_up(OURS, 1, 10.0, polls=6),
        made_up(OURS, 16, 20.0, polls=20),
        made_up(DIRECT, 16, 10.0),
        made_up(NAIVE, 16, 30.0),
    )
    missed = [str(verdict) for verdict in verdicts(results) if not verdict.is_reached]
    assert missed == [
        "up: time over that of one machine, 16 machines: 2.00 (at most 1.1)",
        "up: polls over those of one machine, 16 machines: 3.33 (at most 1.5)",
        "up: time over the direct client's, 16 machines: 2.00 (at most 1.5)",
        "up: the naive provider's time over ours, 16 machines: 1.50 (at least 2.5)",
    ]


def test_the_csv_has_every_figure_with_its_ratios(tmp_path: Path) -> None:
    """The file has every figure and ratio, so that a plot needs no second run."""
    path = tmp_path / "benchmark.csv"
    of_runs(made_up(OURS, 1, 10.0), made_up(OURS, 4, 12.5), made_up(NAIVE, 4, 25.0)).write_csv(path)
    with path.open(encoding="utf-8") as file:
        rows = {(row["who"], row["machines"], row["measure"]): row for row in csv.DictReader(file)}
    naive_up = rows[NAIVE, "4", UP.name]
    assert (naive_up["value"], naive_up["over_pulumi_fal"]) == ("25", "2")
    assert naive_up["over_one_machine"] == ""
    assert rows[OURS, "4", UP.name]["over_one_machine"] == "1.25"
    assert rows[OURS, "4", "up: create"]["value"] == "4"
    assert rows[OURS, "1", UP_POLLS.name]["runs"] == "1"


def test_all_run_once_and_only_ours_again() -> None:
    """Only the provider with jitter is run again, so that the whole ends within minutes."""
    runs = list(benchmark.plan([1, 16, 256]))
    clusters = {(CLUSTER, 1), (CLUSTER, 8), (FOLLOWING, 8)}
    waiting = {(WAITING, 1), (WAITING, 64)}
    assert {run[:2] for run in runs if not run[2]} == clusters | waiting | {
        (who, n) for who in (OURS, V1, NATIVE, NATIVE_CLUSTER, NAIVE, DIRECT) for n in (1, 16, 256)
    }
    repeats = [run[:2] for run in runs if run[2]]
    assert set(repeats) == clusters | {(OURS, 1), (OURS, 16)}
    assert len(repeats) == 5 * (benchmark.REPEATS - 1)


@pytest.mark.parametrize(
    "who, machines, left_out",
    [(NAIVE, 64, False), (NAIVE, 256, True), (OURS, 256, False), (DIRECT, 256, False)],
)
def test_a_naive_run_that_would_take_too_long_is_left_out(
    who: str, machines: int, left_out: bool
) -> None:
    """A naive run that would take too long is left out, and the reason is printed."""
    assert ("4 at a time" in benchmark.too_long(who, machines, 10.0)) is left_out
