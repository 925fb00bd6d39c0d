"""The documents tell the truth: their code runs, and what is drawn from the code is up to date."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PYTHON_BLOCK: Final = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
SECONDS: Final = 60


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run Python as a newcomer would: in development, with no other setting and no key."""
    environment = {"PATH": os.environ["PATH"], "ENVIRONMENT": "development", "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        cwd=cwd,
        env=environment,
        text=True,
        timeout=SECONDS,
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_the_documents_runs(page: Path, tmp_path: Path) -> None:
    """Every Python block of the README and the documentation runs as it stands, in development and without keys."""
    blocks: list[str] = PYTHON_BLOCK.findall(page.read_text(encoding="utf-8"))
    for number, block in enumerate(blocks):
        script = tmp_path / f"block_{number}.py"
        script.write_text(block, encoding="utf-8")
        done = run(str(script), cwd=tmp_path)
        assert (0, "") == (done.returncode, done.stderr)


def test_what_the_documents_draw_from_the_code_is_up_to_date() -> None:
    """The generated parts of the documentation equal what the code says now; ``make generate`` renews them."""
    done = run("docs/_generate.py", "--check")
    assert (0, "") == (done.returncode, done.stderr)
