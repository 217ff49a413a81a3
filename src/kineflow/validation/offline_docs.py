"""Data Docs that need no network: a first page of our own, and the pages of Great Expectations with a plain style.

Their pages load style, scripts and pictures from seven other hosts; without them the list of pages stays empty.
"""

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kineflow.validation.gate import RuleResult

FOREIGN = (
    re.compile(r"<script[^>]*\bsrc=\"https?://[^>]*>\s*</script>"),
    re.compile(r"<link[^>]*\bhref=\"https?://[^>]*>"),
    re.compile(r"<img[^>]*\bsrc=\"https?://[^>]*>", re.DOTALL),
    re.compile(r"url\('https?://[^']*'\)[^;]*;"),
    re.compile(r"<footer>.*?</footer>", re.DOTALL),
)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 75rem; margin: 2rem auto;
  padding: 0 1rem }
h1 { font-size: 1.5rem } h2, h4, h5, h6 { font-size: 1.1rem; margin: 1.5em 0 .3em }
table { border-collapse: collapse; margin: .5rem 0 }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top }
a { color: #06c } ul { padding-left: 1.2rem; margin: .2rem 0 } .breadcrumb { list-style: none; padding: 0 }
.closed, .text-danger { color: #b00020 } .warned, .text-warning { color: #8a5a00 } .text-success { color: #1a7f37 }
.fas { font-style: normal } .fa-check-circle::before { content: "\\2713" }
.fa-times::before { content: "\\2717" } .fa-exclamation-triangle::before { content: "!" }
"""
HEADER = ("rule", "severity", "verdict", "broken by", "what must hold, what broke it first, what to do")


def make_offline(site: Path, gate: str, results: Sequence["RuleResult"]) -> None:
    """Write the first page of a gate's Data Docs and free the other pages from the network.

    Args:
        site: the folder of the Data Docs, as Great Expectations built them.
        gate: its name.
        results: one for each rule.
    """
    for page in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = page.read_text(encoding="utf-8")
        for pattern in FOREIGN:
            text = pattern.sub("", text)
        page.write_text(text.replace("</head>", f"<style>{STYLE}</style></head>", 1), encoding="utf-8")
    pages = {page.stem.removeprefix("facts-"): page for page in site.glob("validations/**/*.html")}
    links = {table: page.relative_to(site).as_posix() for table, page in pages.items()}
    (site / "index.html").write_text(_first_page(gate, results, links), encoding="utf-8")


def _first_page(gate: str, results: Sequence["RuleResult"], links: dict[str, str]) -> str:
    order = {"closed": 0, "warned": 1, "holds": 2}
    rows = [_row(result, links) for result in sorted(results, key=lambda result: order[_verdict(result)])]
    header = "".join(f"<th>{name}</th>" for name in HEADER)
    verdict = "closed" if any(_verdict(result) == "closed" for result in results) else "open"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Gate {gate}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>Gate {gate}: {verdict}</h1>\n"
        f"<table><thead><tr>{header}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody></table></body></html>\n"
    )


def _row(result: "RuleResult", links: dict[str, str]) -> str:
    rule, verdict = result.rule, _verdict(result)
    name = html.escape(rule.name)
    if rule.table in links:
        name = f'<a href="{html.escape(links[rule.table])}">{name}</a>'
    words = html.escape(rule.sentence)
    if result.num_broken:
        more = result.num_broken - len(result.examples)
        items = [html.escape(example) for example in result.examples] + ([f"and {more} more"] if more > 0 else [])
        words += f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>{html.escape(rule.remedy)}"
    cells = [name, rule.severity, f'<span class="{verdict}">{verdict}</span>']
    cells += [f"{result.num_broken} of {result.num_checked}", words]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _verdict(result: "RuleResult") -> str:
    if not result.num_broken:
        return "holds"
    return "closed" if result.rule.severity == "stop" else "warned"
