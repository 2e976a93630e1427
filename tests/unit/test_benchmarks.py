"""The benchmarks: the two that ours is measured against do the work, and the figures add up."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks import direct, naive, quoted, schedule
from benchmarks.goals import GOALS, verdicts
from benchmarks.measure import KINDS, Command, Run
from benchmarks.programs import (
    DIRECT,
    FOLLOWING,
    INSTANCE,
    NAIVE,
    NATIVE_FOLLOWING,
    ONLY_CREATED,
    OURS,
    WAITING,
    commands,
)
from benchmarks.results import MEMORY, REFRESH, UP, UP_POLLS, Results

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
    made = {
        "up": Command(up, {**calls, "create": machines + refused, "list": polls}),
        "refresh": Command(1.0, {**calls, "list": 2}),
        "destroy": Command(3.0, {**calls, "delete": machines, "list": 1, "get": 1}),
    }
    measured = {name: made[name] for name in commands(who)}
    return Run(who, machines, measured, in_flight=4, memory=memory)


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
    """The baseline sends one POST and then GETs of the machine, and nothing else."""
    naive.MachineProvider().create(dict(INSTANCE))
    assert api.state.calls["create"] == 1
    assert api.state.calls["list"] == 0
    assert api.state.calls["get"] >= 1


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


def test_who_only_creates_machines_has_no_figure_of_other_commands() -> None:
    """A command that was not measured has no time and no calls, not zero of them."""
    results = of_runs(*(made_up(who, 64, 12.0) for who in ONLY_CREATED))
    assert all(results.value(who, 64, UP) == 12.0 for who in ONLY_CREATED)
    assert all(results.value(who, 64, REFRESH) is None for who in ONLY_CREATED)
    assert commands(OURS) == ("up", "refresh", "destroy")


def whole() -> Results:
    """A run of each row that reaches every goal."""
    times = {NAIVE: 41.0, FOLLOWING: 21.0, NATIVE_FOLLOWING: 21.0}
    refused = {(WAITING, 1): 30, (WAITING, 64): 33}
    return of_runs(
        *(
            made_up(
                row.who,
                row.machines,
                times.get(row.who, 10.5),
                refused=refused.get((row.who, row.machines), 0),
            )
            for row in schedule.ROWS
        )
    )


def test_each_goal_gets_its_verdict() -> None:
    """The schedule has the runs that every goal needs."""
    said = list(verdicts(whole()))
    assert [verdict.goal for verdict in said] == list(GOALS)
    assert [str(verdict) for verdict in said if not verdict.is_reached] == []


def test_a_goal_that_is_missed_is_said_to_be() -> None:
    """A run that is too slow or makes too many calls misses its goal."""
    results = of_runs(
        made_up(OURS, 1, 10.0, polls=6),
        made_up(OURS, 16, 20.0, polls=20),
        made_up(DIRECT, 1, 8.0),
        made_up(DIRECT, 16, 10.0),
        made_up(NAIVE, 16, 30.0),
    )
    missed = [str(verdict) for verdict in verdicts(results) if not verdict.is_reached]
    assert missed == [
        "up: time over that of one machine, 16 machines: 2.00 (at most 1.05)",
        "up: polls over those of one machine, 16 machines: 3.33 (at most 1.5)",
        "up: time over the direct client's, 1 machine: 1.25 (at most 1.15)",
        "up: time over the direct client's, 16 machines: 2.00 (at most 1.25)",
        "up of the naive provider: time over ours, 16 machines: 1.50 (at least 3)",
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


def test_all_runs_are_expected_to_end_within_nine_and_a_half_minutes() -> None:
    """Ten minutes are the limit, and half a minute is for what the target does besides."""
    assert (schedule.BUDGET, schedule.LIMIT) == (9.5 * 60, 10 * 60)
    runs = schedule.runs(largest=256)
    assert sum(row.estimate(schedule.PROVISIONING) for row, _ in runs) <= schedule.BUDGET


def test_repeats_come_after_everything_else_has_run() -> None:
    """If time is short, a repeat is left out, and no row."""
    runs = list(schedule.runs(largest=256))
    firsts = [row for row, is_repeat in runs if not is_repeat]
    assert firsts == [row for row, _ in runs][: len(firsts)] == list(schedule.ROWS)
    assert len(runs) == sum(row.times for row in schedule.ROWS)


def test_a_trial_leaves_out_what_has_more_machines() -> None:
    """A short run with few machines is possible."""
    assert {row.machines for row, _ in schedule.runs(largest=8)} == {1, 8}


def test_what_the_goals_compare_is_measured_more_than_once() -> None:
    """A single run of a provider with jitter would be down to luck."""
    times = {row.machines: row.times for row in schedule.ROWS if row.who == OURS}
    assert all(times[machines] >= 2 for machines in (1, 64, 256))


# The figures in the documentation


def test_every_figure_in_the_documentation_is_one_of_the_last_run() -> None:
    """The README and the page on performance quote docs/benchmark.csv; `make bench` writes all."""
    figures = quoted.read(quoted.ROOT / "docs" / "benchmark.csv")
    texts = [page.read_text(encoding="utf-8") for page in quoted.PAGES]
    for sentence in quoted.SENTENCES:
        said = [found for text in texts if (found := sentence.said(text))]
        assert said == [sentence.measured(figures)], sentence.text


def test_every_measured_row_of_a_table_is_held_to_the_last_run() -> None:
    """A row that nobody corrects would become stale."""
    page = quoted.PAGES[1].read_text(encoding="utf-8")
    measured = page[page.index("## Measurements") :]
    lines = [line for line in measured.splitlines() if line.endswith(" |") and line[-3].isdigit()]
    assert len(lines) > 20
    for line in lines:
        assert any(sentence.said(line) for sentence in quoted.SENTENCES), line


def test_a_whole_run_writes_every_figure_into_the_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schedule has what the pages quote, and only figures change in them."""
    copies = tuple(Path(shutil.copy(page, tmp_path)) for page in quoted.PAGES)
    monkeypatch.setattr(quoted, "PAGES", copies)
    whole().write_csv(tmp_path / "benchmark.csv")
    figures = quoted.read(tmp_path / "benchmark.csv")
    before = [page.read_text(encoding="utf-8") for page in copies]
    assert list(quoted.correct(figures)) == list(copies)
    after = [page.read_text(encoding="utf-8") for page in copies]
    for sentence in quoted.SENTENCES:
        assert sentence.measured(figures) in [sentence.said(text) for text in after]
    without_figures = [[re.sub(r"[\d.]+", "", text) for text in texts] for texts in (before, after)]
    assert without_figures[0] == without_figures[1]
    assert list(quoted.correct(figures)) == []
