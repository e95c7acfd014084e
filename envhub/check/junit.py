"""The report as JUnit XML, which CI systems show."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from envhub.check.result import Report

# what XML 1.0 cannot hold
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml(report: Report) -> bytes:
    """Return the report; a warning is a test that passed, with words."""
    name = str(report.about.get("environment", ""))
    suite = ElementTree.Element(
        "testsuite",
        name=f"envhub check {name}",
        tests=str(len(report.results)),
        failures=str(report.count("failed")),
        errors="0",
        skipped=str(report.count("not applicable")),
        time=f"{sum(result.elapsed_s for result in report.results):.3f}",
    )
    for result in report.results:
        verdict = result.verdict
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"envhub.{name}", name=result.id,
            time=f"{result.elapsed_s:.3f}",
        )  # fmt: skip
        words = _clean("\n".join((verdict.seen, verdict.advice, *verdict.details)).strip())
        match verdict.status:
            case "failed":
                message = _clean(f"{result.claim} {verdict.seen}")
                ElementTree.SubElement(case, "failure", message=message).text = words
            case "not applicable":
                ElementTree.SubElement(case, "skipped", message=_clean(verdict.seen))
            case _:
                ElementTree.SubElement(case, "system-out").text = words
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    text: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return text


def _clean(text: str) -> str:
    return _NOT_XML.sub("�", text)
