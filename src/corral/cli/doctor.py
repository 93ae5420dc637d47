"""`corral doctor`: one screen on all that Corral stands on, and the commands that mend what is wrong."""

from __future__ import annotations

import json
from dataclasses import asdict

from corral.cli.context import Context
from corral.cli.diagnosis import Finding, State, examine

_SIGNS = {State.GOOD: ("✓", "32"), State.SLOW: ("!", "33"), State.BROKEN: ("✗", "31")}
_PART_COLUMNS = 10


def doctor(context: Context) -> int:
    """`corral doctor [--json]`: exit 1 when something is broken."""
    findings: list[Finding] = []
    for finding in examine(context.settings, context.api):
        findings.append(finding)
        if not context.parsed.flag("json"):
            context.console.print(_line(finding, color=context.console.color and context.console.writes_terminal))
    if context.parsed.flag("json"):
        context.console.print(json.dumps([asdict(finding) for finding in findings], indent=2))
    return int(any(finding.state is State.BROKEN for finding in findings))


def _line(finding: Finding, *, color: bool) -> str:
    sign, code = _SIGNS[finding.state]
    shown = f"\x1b[{code}m{sign}\x1b[0m" if color else sign
    mend = f"\n{'':{_PART_COLUMNS + 2}}→ {finding.mend}" if finding.mend else ""
    return f"{shown} {finding.part:<{_PART_COLUMNS}}{finding.text}{mend}"
