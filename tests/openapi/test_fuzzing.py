"""A short, deterministic run of ``make fuzz``."""

from pathlib import Path

import pytest

from tests.fuzzing import fuzz
from tests.support.processes import Services

SHORT = ("--seed", "1", "--generation-deterministic", "--max-examples", "5")


@pytest.mark.timeout(600)
def test_no_answer_is_a_5xx_or_outside_the_document(services: Services, tmp_path: Path) -> None:
    report = tmp_path / "report"
    found = fuzz(services, SHORT, report)
    assert found is None, f"{found}\n{report.read_text()}"
    assert "Stateful" in report.read_text()
