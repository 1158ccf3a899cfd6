"""The page of results: it needs nothing beside itself, and its tables are sorted as numbers in a browser."""

import re
import shutil
import subprocess

import pandas as pd
import pytest
from PIL import Image

from stages.reporting.page import WIDTH, Section, page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--virtual-time-budget=15000", "--dump-dom"),
)
TABLE = pd.DataFrame({"method": ["teacher", "kd <ood>", "mosaickd ‡", "fast"], "top-1 %": ["99.63", "9.50", "91.59", "–"]})


def write(folder):
    Image.new("RGB", (3 * WIDTH, 30), "red").save(folder / "curves.png")
    described = pd.DataFrame({"row": ["kd_ood"], "what it is": ["KL on pool images"]})
    sections = [Section("digits", TABLE, ["Made & told."], [folder / "curves.png"], described), Section("other one", TABLE)]
    return page("Results", sections, ["What columns mean.", "gain < 0"])


@pytest.fixture
def written(tmp_path):
    return write(tmp_path)


def test_the_page_is_the_same_each_time_it_is_written(written, tmp_path):
    assert written == write(tmp_path)
    tables = re.findall(r'<table id="([^"]+)"', written)
    assert len(tables) == len(set(tables)) == 3


def test_the_page_is_whole_and_names_nothing_to_fetch(written):
    assert all(part in written for part in ('id="digits"', 'href="#other-one"', "Made &amp; told."))
    assert "<li>What columns mean.</li><li>gain &lt; 0</li>" in written
    assert "KL on pool images" in written
    own = re.sub(r"<(script|style).*?</\1>", "", written, flags=re.DOTALL)
    assert not re.findall(r'(?:src|<link[^>]* href)="(?!data:)', own)
    assert written.count("data:image/webp;base64,") == 1


def test_wide_tables_are_folded_and_marks_are_told_where_they_stand(tmp_path):
    wide = pd.DataFrame({"method": ["teacher", "mosaickd ‡"], **{f"c{k}": ["1.5", "2.5"] for k in range(14)}})
    Image.new("RGB", (30, 30), "red").save(tmp_path / "confusion-student_domain.png")
    text = page("Results", [Section("digits", wide, figures=[tmp_path / "confusion-student_domain.png"])], [])
    open_part, _, folded = text.partition("More columns")
    assert "<th>c7</th>" in open_part
    assert "<th>c8</th>" not in open_part
    assert all(f"<th>c{k}</th>" in folded for k in range(8, 14))
    assert "<th>method</th>" in folded
    assert "‡ made with other parameters" in open_part
    assert "† upper bound" not in text
    assert "Which classes are taken for which (confusion-student_domain)" in folded


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_a_click_on_a_head_sorts_its_numbers(written, tmp_path):
    click = (
        "<script>const wait = setInterval(() => { const head = document.querySelectorAll('#digits th.dt-orderable-asc')[1];"
        "if (head) { clearInterval(wait); setTimeout(() => head.click(), 1000); } }, 50)</script></body>"
    )
    (tmp_path / "report.html").write_text(written.replace("</body>", click))
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "report.html").as_uri()]
    seen = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    first, second = (part.partition("</table>")[0] for part in (seen.split('id="digits"')[1], seen.split('id="other-one"')[1]))
    numbers = [re.findall(r"<td[^>]*>(\d+\.\d+)</td>", part) for part in (first, second)]
    assert sorted(numbers[0], key=float) == numbers[0] or sorted(numbers[0], key=float, reverse=True) == numbers[0]
    assert numbers[1] == ["99.63", "9.50", "91.59"]
    assert "kd &lt;ood&gt;" in first
