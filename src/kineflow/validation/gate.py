"""Run the rules of a gate by Great Expectations, and open or close it.

The verdict that other stages depend on holds no time and no path, so equal data give equal bytes. The Data Docs
beside it are for people: one site for each gate, rebuilt by every run.
"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kineflow.errors import GateError
from kineflow.validation.gx_import import import_great_expectations
from kineflow.validation.offline_docs import make_offline
from kineflow.validation.rules import Rule, Severity
from kineflow.validation.verdict import write_verdict
from kineflow.validation.verdict_table import table_lines

if TYPE_CHECKING:
    import pandas as pd

NUM_EXAMPLES = 10


@dataclass(frozen=True)
class RuleResult:
    """What a rule found.

    Args:
        rule: the rule, with the severity in force.
        num_checked: rows of the table of facts that the rule applies to.
        num_broken: rows that break the rule.
        examples: the first of them in words, in the order of the table.
    """

    rule: Rule
    num_checked: int
    num_broken: int
    examples: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The violation in one line: which rule, on what, how many more, what to do."""
        more = f" and {self.num_broken - 1} more" if self.num_broken > 1 else ""
        return f"{self.rule.name} is broken by {self.examples[0]}{more}: {self.rule.sentence}; {self.rule.remedy}"


@dataclass(frozen=True)
class GateResult:
    """What a gate found, by rule in the rules' order.

    Args:
        gate: its name.
        results: one for each rule.
        docs_index: where the Data Docs open; None where none were built.
    """

    gate: str
    results: tuple[RuleResult, ...]
    docs_index: Path | None

    @property
    def passed(self) -> tuple[RuleResult, ...]:
        """Rules that hold."""
        return tuple(result for result in self.results if not result.num_broken)

    @property
    def warnings(self) -> tuple[RuleResult, ...]:
        """Broken rules that only report."""
        return self._broken("warn")

    @property
    def failures(self) -> tuple[RuleResult, ...]:
        """Broken rules that close the gate."""
        return self._broken("stop")

    def summary(self) -> list[str]:
        """Lines for people: the count and where the Data Docs are, then a table of the broken rules."""
        docs = f"; Data Docs: {self.docs_index}" if self.docs_index is not None else ""
        if len(self.passed) == len(self.results):
            return [f"gate {self.gate}: all {len(self.results)} rules hold{docs}"]
        warned = f", {len(self.warnings)} warned" if self.warnings else ""
        closed = f", {len(self.failures)} closed the gate" if self.failures else ""
        counts = f"gate {self.gate}: {len(self.passed)} of {len(self.results)} rules hold{warned}{closed}"
        return [f"{counts}{docs}", *table_lines((*self.failures, *self.warnings))]

    def _broken(self, severity: Severity) -> tuple[RuleResult, ...]:
        return tuple(result for result in self.results if result.num_broken and result.rule.severity == severity)


def run_gate(
    gate: str, rules: Iterable[Rule], tables: Mapping[str, "pd.DataFrame"], *, docs_dir: Path | None
) -> GateResult:
    """Check every rule and build the gate's Data Docs.

    Args:
        gate: its name, of the docs' folder too.
        rules: with the severities in force.
        tables: the tables of facts by name.
        docs_dir: the Data Docs of all gates; None: build none.
    """
    rules = tuple(rules)
    site = None
    if docs_dir is not None:
        site = docs_dir / gate
        shutil.rmtree(site, ignore_errors=True)
        site.mkdir(parents=True)
    found = _expectation_results(gate, rules, tables, site)
    results = tuple(_rule_result(rule, found[rule.name]) for rule in rules)
    if site is not None:
        make_offline(site, gate, results)
    return GateResult(gate, results, site / "index.html" if site is not None else None)


def open_gate(result: GateResult, path: Path) -> None:
    """Write the verdict to `path` if no rule of severity `stop` is broken; else remove it and say why.

    Raises:
        GateError: a rule of severity `stop` is broken.
    """
    path.unlink(missing_ok=True)
    if result.failures:
        others = [failure.rule.name for failure in result.failures[1:]]
        also = f" (broken too: {', '.join(others)})" if others else ""
        raise GateError(f"gate {result.gate}: {result.failures[0].sentence}{also}")
    rules = [
        {
            "name": found.rule.name,
            "severity": found.rule.severity,
            "checked": found.num_checked,
            "broken": found.num_broken,
            "examples": list(found.examples),
        }
        for found in sorted(result.results, key=lambda found: found.rule.name)
    ]
    write_verdict(path, result.gate, rules)


def _expectation_results(
    gate: str, rules: tuple[Rule, ...], tables: Mapping[str, "pd.DataFrame"], site: Path | None
) -> dict[str, Any]:
    """Great Expectations' result of each rule, by the rule's name; the Data Docs are built into `site`."""
    gx = import_great_expectations()  # late: it costs a second
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    for name in list(context.list_data_docs_sites()):  # one in a temporary folder that nobody would see
        context.delete_data_docs_site(name)
    if site is not None:
        _add_docs_site(context, gate, site)
    source = context.data_sources.add_pandas("facts")
    found: dict[str, Any] = {}
    for table in dict.fromkeys(rule.table for rule in rules):
        of_table = [rule for rule in rules if rule.table == table]
        suite = context.suites.add(gx.ExpectationSuite(f"{gate}.{table}"))
        for rule in of_table:
            suite.add_expectation(_expectation(gx.expectations, rule))
        batch = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe("all")
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=table, data=batch, suite=suite))
        columns = {rule.column for rule in of_table}
        details = {rule.detail for rule in of_table if rule.detail is not None} - columns
        result_format = {
            "result_format": "SUMMARY",
            "unexpected_index_column_names": ["item", *sorted(details)],
            "partial_unexpected_count": NUM_EXAMPLES,
        }
        checkpoint = gx.Checkpoint(
            name=table, validation_definitions=[definition], actions=[], result_format=result_format
        )
        run = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": tables[table]})
        (validation,) = run.run_results.values()
        for result in validation.results:
            found[result.expectation_config.meta["rule"]] = result
    if site is not None:
        context.build_data_docs(site_names=[gate])
    return found


def _add_docs_site(context: Any, name: str, site: Path) -> None:
    backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site.resolve())}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    context.add_data_docs_site(
        name, {"class_name": "SiteBuilder", "store_backend": backend, "site_index_builder": index}
    )


def _expectation(expectations: Any, rule: Rule) -> Any:
    return getattr(expectations, rule.expectation)(
        column=rule.column,
        **rule.arguments,
        description=f"{rule.name} ({rule.severity}): {rule.sentence}",
        severity="critical" if rule.severity == "stop" else "warning",
        meta={"rule": rule.name},
        notes=rule.remedy,
    )


def _rule_result(rule: Rule, found: Any) -> RuleResult:
    if found.exception_info.get("raised_exception"):
        raise RuntimeError(f"rule {rule.name}: {found.exception_info.get('exception_message')}")
    values = found.result
    rows = values.get("partial_unexpected_index_list") or []
    examples = tuple(_example(rule, row) for row in rows[:NUM_EXAMPLES])
    num_checked = int(values["element_count"]) - int(values.get("missing_count") or 0)
    return RuleResult(rule, num_checked, int(values["unexpected_count"]), examples)


def _example(rule: Rule, row: Mapping[str, Any]) -> str:
    if rule.detail is not None:
        return f"{row['item']} ({row[rule.detail]})"
    value = row[rule.column]
    shown = f"{value:g}" if isinstance(value, float) else value
    return f"{row['item']} ({rule.column.removeprefix('num_').replace('_', ' ')}: {shown})"
