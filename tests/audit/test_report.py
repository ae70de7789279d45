"""Reports add up what chains say."""

from __future__ import annotations

from gatewayd.audit.report import ChainReport, Finding, Report


def test_a_report_is_fine_if_every_chain_is():
    report = Report([ChainReport("a", checked=3), ChainReport("b", checked=4)])
    assert (report.fine, report.checked, report.findings) == (True, 7, [])
    one, two = Finding("a", 1, 2, "changed", "t"), Finding("b", 1, 1, "removed", "t")
    report.chains[1].findings.append(two)
    report.chains[0].findings.append(one)
    assert (report.fine, report.findings) == (False, [one, two])


def test_chains_share_no_lists():
    one, other = ChainReport("a"), ChainReport("b")
    one.findings.append(Finding("a", 1, 2, "changed", "t"))
    assert other.findings == []
