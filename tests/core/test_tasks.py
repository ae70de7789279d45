"""Tasks: held until they end, named, and never failing in silence."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from gatewayd.core import tasks
from gatewayd.core.tasks import spawn


def run_with_reports(main: Any) -> list[dict[str, Any]]:
    """Run `main`; what the loop's exception handler was told."""
    reports: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
        await main()

    asyncio.run(run())
    return reports


def test_a_failure_is_reported_with_the_tasks_name():
    async def fail() -> None:
        raise LookupError("why")

    async def main() -> None:
        task = spawn(fail(), "dial upstream quotes")
        await asyncio.wait([task])

    (report,) = run_with_reports(main)
    assert report["message"] == "task dial upstream quotes failed"
    assert str(report["exception"]) == "why"
    assert report["task"].get_name() == "dial upstream quotes"


def test_success_and_cancelling_are_not_worth_a_report():
    async def main() -> None:
        done = spawn(asyncio.sleep(0), "done")
        cancelled = spawn(asyncio.Event().wait(), "cancelled")
        await done
        cancelled.cancel()
        await asyncio.wait([cancelled])

    assert run_with_reports(main) == []


def test_a_task_nobody_holds_runs_to_its_end():
    """The loop itself keeps only weak references; what waits for something nobody else holds would be collected."""

    async def main() -> None:
        async def lonely() -> None:
            await asyncio.get_running_loop().create_future()

        name = spawn(lonely(), "lonely").get_name()
        await asyncio.sleep(0)
        gc.collect()
        (held,) = [task for task in asyncio.all_tasks() if task.get_name() == name]
        held.cancel()
        await asyncio.wait([held])

    assert run_with_reports(main) == []


def test_ended_tasks_are_let_go():
    async def main() -> None:
        before = len(tasks._running)
        made = [spawn(asyncio.sleep(0), "short") for _ in range(10)]
        assert len(tasks._running) == before + 10
        await asyncio.wait(made)
        assert len(tasks._running) == before

    asyncio.run(main())
