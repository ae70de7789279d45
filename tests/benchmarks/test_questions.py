from __future__ import annotations

import re

from click.testing import CliRunner

from benchmarks import questions
from gatewayd.collect.store import Store


def test_every_question_is_answered(tmp_path):
    """Of few calls: what is printed, not how long it took."""
    done = CliRunner().invoke(
        questions.main, ["--calls", "3000", "--days", "2", "--times", "2", "--keep", str(tmp_path / "calls.duckdb")]
    )
    assert done.exit_code == 0, done.output
    timed = re.findall(r"^ *[\d.]+ +[\d.]+ \|(?: *[\d.]+){3}  (.+)$", done.output, re.MULTILINE)
    assert timed == list(questions.questions(3000, 2))
    assert "3,000 calls of 2 days" in done.output
    assert re.search(r"peak memory of the process \d+ MiB", done.output)


def test_what_was_made_up_is_all_there(tmp_path):
    store = Store(tmp_path / "calls.duckdb")
    questions.fill(store, 1000, 1)
    with store.cursor() as cursor:
        for table in ("calls", "rollup_1d_now", "latency_1h_now"):
            total = "count(*)" if table == "calls" else "sum(calls)::INTEGER"
            assert cursor.execute(f"SELECT {total} FROM {table}").fetchone() == (1000,)
    store.close()
