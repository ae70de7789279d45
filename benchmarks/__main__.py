"""The command line of the benchmarks. Results go to standard output, everything else to standard error."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import plots, proxies, report
from benchmarks.crowds import CrowdError
from benchmarks.generator import GeneratorError
from benchmarks.harness import Harness, Options
from benchmarks.machine import complain, describe_machine, prepare
from benchmarks.processes import StartError
from benchmarks.scenarios import OPEN_LOOP_RATE, Scenario, all_scenarios

RESULTS = Path(__file__).parent / "results"
SCENARIOS = all_scenarios()


@click.command(context_settings={"show_default": True})
@click.option("--scenario", "names", multiple=True, type=click.Choice(list(SCENARIOS)), help="Default: all.")
@click.option("--peer", "peers", multiple=True, type=click.Choice(proxies.PEERS), help="Default: all installed.")
@click.option("--rounds", type=click.IntRange(1, 99), help="Pairs of rounds with each peer.  [default: 7]")
@click.option("--seconds", type=click.IntRange(1, 60), help="Length of a round.  [default: 2]")
@click.option("--workers", type=click.IntRange(1, 256), default=1, help="Workers of every proxy.")
@click.option("--rate", type=click.FloatRange(1), default=OPEN_LOOP_RATE, help="Open loop: requests/s for each worker.")
@click.option("--quick", is_flag=True, help="Three rounds of a second: shows that it works, not what it costs.")
@click.option("--json", "json_to", metavar="PATH|-", help="Write the results as JSON; - is standard output.")
@click.option("--plots", "plots_to", metavar="FOLDER", type=click.Path(path_type=Path), help="Draw SVGs into a folder.")
@click.option("--publish", is_flag=True, help="Keep this run in benchmarks/results/.")
def main(
    names: tuple[str, ...],
    json_to: str | None,
    plots_to: Path | None,
    publish: bool,
    rate: float,
    **chosen: Any,
) -> None:
    """Measure gatewayd beside other proxies."""
    chosen["rounds"] = chosen["rounds"] or (3 if chosen["quick"] else 7)
    chosen["seconds"] = chosen["seconds"] or (1 if chosen["quick"] else 2)
    options = Options(**{**chosen, "peers": chosen["peers"] or proxies.PEERS})
    scenarios = all_scenarios(rate)
    prepare()
    document: dict[str, Any] = {"machine": describe_machine(sys.argv[1:]), "skipped": {}, "broken": {}, "scenarios": []}
    try:
        measure([scenarios[name] for name in names or scenarios], options, document)
    except KeyboardInterrupt:
        complain("stopped")
        sys.exit(130)
    hand_over(document, {name: one.title for name, one in scenarios.items()}, json_to, plots_to, publish)
    for name, reason in document["broken"].items():
        complain(f"{name} could not be measured: {reason}")
    sys.exit(1 if document["broken"] else 0)


def measure(scenarios: list[Scenario], options: Options, document: dict[str, Any]) -> None:
    """Run the scenarios one after the other and collect their results in `document`; one that breaks is noted there."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, TextColumn("{task.fields[doing]}"), console=Console(stderr=True)) as progress,
        Harness(options) as harness,
    ):
        for scenario in scenarios:
            turns = options.rounds * scenario.turns(len(harness.peers()))
            task = progress.add_task(scenario.name, total=turns or None, doing="")
            harness.say = _teller(progress, task)
            try:
                document["scenarios"].append(scenario.run(harness, partial(progress.advance, task)))
            except (StartError, GeneratorError, CrowdError) as error:
                document["broken"][scenario.name] = str(error)
            harness.stop_all()
            harness.arrange(options.workers)
            progress.update(task, total=turns or 1, completed=turns or 1, doing="")
        document["skipped"] = dict(harness.skipped)


def _teller(progress: Progress, task: Any) -> Callable[[str], None]:
    return lambda text: progress.update(task, doing=text)


def as_json(document: dict[str, Any]) -> bytes:
    """One scenario: its result with machine and what was skipped beside; several: the list of them."""
    shown = document
    if len(document["scenarios"]) == 1:
        shown = {**document["scenarios"][0], **{key: document[key] for key in ("machine", "skipped", "broken")}}
    return orjson.dumps(shown, option=orjson.OPT_INDENT_2) + b"\n"


def hand_over(
    document: dict[str, Any],
    titles: dict[str, str],
    json_to: str | None,
    plots_to: Path | None,
    publish: bool,
) -> None:
    """Print, write, draw and keep what was asked for. JSON on standard output stands there alone."""
    console = Console(stderr=json_to == "-")
    if not console.is_terminal:
        console.width = 160
    for line in report.machine_lines(document):
        console.print(line, highlight=False, soft_wrap=True)
    for result in document["scenarios"]:
        report.show(console, titles[result["scenario"]], result)
    if json_to == "-":
        sys.stdout.buffer.write(as_json(document))
    elif json_to:
        Path(json_to).write_bytes(as_json(document))
    if plots_to:
        plots_to.mkdir(parents=True, exist_ok=True)
        if not plots.draw(document, plots_to):
            complain("nothing drawn: matplotlib is not installed, or no scenario has anything to draw")
    if publish:
        keep(document, titles, RESULTS / "latest")


def keep(document: dict[str, Any], titles: dict[str, str], folder: Path) -> None:
    """Replace the published run: results.json, README.md and the pictures."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pictures = plots.draw(document, folder)
    (folder / "results.json").write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    (folder / "README.md").write_text(report.markdown(document, titles, pictures))


if __name__ == "__main__":
    main()
