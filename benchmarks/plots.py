"""Pictures of a run as SVG, where matplotlib is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

Document = dict[str, Any]


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(document: Document, folder: Path) -> list[str]:
    """Draw what there is to draw into `folder`; the names of the files."""
    if not available():
        return []
    loaded = [result for result in document["scenarios"] if "cpu_us_per_request" in result["gatewayd"]]
    if not loaded:
        return []
    drawn = [_bars(loaded, "cpu_us_per_request", "CPU µs per request, whole proxy", folder / "cpu.svg")]
    open_loop = [result for result in loaded if result["scenario"] == "openloop"]
    if open_loop:
        drawn.append(_latencies(open_loop[0], folder / "latency.svg"))
    return drawn


def _bars(results: list[Document], key: str, label: str, path: Path) -> str:
    """A group of bars for each scenario, one bar a proxy, whiskers from least to most."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(name for result in results for name in ("gatewayd", *result["peers"])))
    figure, axes = pyplot.subplots(figsize=(1.5 + 1.3 * len(results), 4), layout="constrained")
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        at, height, below, above = [], [], [], []
        for place, result in enumerate(results):
            found = result["gatewayd"] if name == "gatewayd" else result["peers"].get(name)
            if found and found[key] is not None:
                least, most = found["cpu_us_spread"]
                at.append(place + (index - len(names) / 2 + 0.5) * width)
                height.append(found[key])
                below.append(max(0.0, found[key] - least))
                above.append(max(0.0, most - found[key]))
        axes.bar(at, height, width, yerr=[below, above], label=name, error_kw={"linewidth": 0.7})
    axes.set_xticks(range(len(results)), [result["scenario"] for result in results])
    axes.set_ylabel(label)
    axes.set_yscale("log")
    axes.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path.name


def _latencies(result: Document, path: Path) -> str:
    """Percentiles of the open loop, one line a proxy."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    everyone = {"gatewayd": result["gatewayd"], **result["peers"]}
    for name, found in everyone.items():
        points = found.get("latency_curve") or []
        if points:
            axes.plot(range(len(points)), [value for _, value in points], marker=".", label=name)
            axes.set_xticks(range(len(points)), [f"{percent:g}" for percent, _ in points], rotation=45)
    axes.set_xlabel("percentile")
    axes.set_ylabel("milliseconds from the intended start")
    axes.set_yscale("log")
    axes.set_title(result["traffic"], fontsize="small")
    axes.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path.name
