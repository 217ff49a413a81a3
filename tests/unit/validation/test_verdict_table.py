from kineflow.validation.gate import GateResult, RuleResult
from kineflow.validation.rules import Rule, Severity, at_least


def result(name: str, severity: Severity, *examples: str, num_broken: int | None = None) -> RuleResult:
    rule = Rule(name, f"what {name} says", f"what to do about {name}", severity, "table", "column", *at_least(1))
    return RuleResult(rule, 8, len(examples) if num_broken is None else num_broken, examples)


def test_one_line_where_all_is_well() -> None:
    assert GateResult("raw", (result("one", "stop"), result("two", "warn")), None).summary() == [
        "gate raw: all 2 rules hold"
    ]


def test_broken_rules_are_a_table_that_begins_with_what_closes_the_gate() -> None:
    found = GateResult(
        "raw",
        (
            result("good", "stop"),
            result("video_annotated", "warn", "v3.mp4 (labels: 0)"),
            result("several", "stop", "a " * 60, num_broken=7),
        ),
        None,
    )
    assert found.summary() == [
        "gate raw: 1 of 3 rules hold, 1 warned, 1 closed the gate",
        "  rule             severity  verdict  broken by  the first",
        f"  several          stop      closed   7 of 8     {'a ' * 34}...",
        "    -> what to do about several",
        "  video_annotated  warn      warned   1 of 8     v3.mp4 (labels: 0)",
        "    -> what to do about video_annotated",
    ]
