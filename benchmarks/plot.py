"""Draw the plot in docs/performance.md."""

from __future__ import annotations

from pathlib import Path

from benchmarks.programs import DIRECT, NAIVE, NATIVE, OURS
from benchmarks.results import UP, UP_POLLS, Results

STYLES = {
    OURS: ("#0b5fff", "o", "-"),
    NATIVE: ("#2a9d4a", "D", "--"),
    NAIVE: ("#d1495b", "s", "-"),
    DIRECT: ("#777777", "^", ":"),
}


def draw(results: Results, path: Path) -> None:
    """Plot the time and the polling calls of `up` by number of machines. Needs matplotlib."""
    import matplotlib as mpl  # type: ignore[import-not-found, unused-ignore]

    mpl.use("svg")
    # So that the same figures produce the same file.
    mpl.rcParams.update({"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 10})
    from matplotlib import pyplot as plt
    from matplotlib.ticker import (  # type: ignore[import-not-found, unused-ignore]
        LogLocator,
        NullFormatter,
        ScalarFormatter,
    )

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, measure, title in zip(
        panels,
        (UP, UP_POLLS),
        ("pulumi up: seconds", "pulumi up: list and get calls"),
        strict=True,
    ):
        for who, (color, marker, line) in STYLES.items():
            points = [
                (n, value)
                for name, n in results.rows()
                if name == who and (value := results.value(who, n, measure)) is not None
            ]
            if points:
                axes.plot(*zip(*points, strict=True), line, color=color, marker=marker, label=who)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.set_title(title)
        axes.set_xlabel("machines")
        axes.set_xticks(sorted({n for name, n in results.rows() if name in STYLES}))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_formatter(NullFormatter())
        axes.grid(visible=True, alpha=0.3)
    panels[0].legend()
    figure.savefig(path, metadata={"Creator": None, "Date": None})
