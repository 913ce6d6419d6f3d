"""The page of a report: what is in it, what is not, and how a browser shows it."""

import re

import pytest
from PIL import Image
from support.browser import look
from support.made_runs import MadeRun, killed_run, write_run

from tfdist.report.page import make_page
from tfdist.report.read import read_runs

# What a browser shows: its text, what sticks out, and text that is hard to read on what is behind it.
SCRIPT = """(view, body) => {
  const number = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => {
    const parts = number(text).slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = view.getComputedStyle(node).backgroundColor;
      if (number(colour)[3] !== 0) return colour;
    }
  };
  const shown = (node) => node.checkVisibility() && node.textContent.trim();
  const texts = [...body.querySelectorAll("h1, h2, p, th, td, figcaption, text, footer")].filter(shown);
  const contrast = (node) => {
    const style = view.getComputedStyle(node);
    const pair = [light(node.tagName === "text" ? style.fill : style.color), light(behind(node))].sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05);
  };
  return {
    text: body.innerText, svg: texts.filter((node) => node.tagName === "text").map((node) => node.textContent),
    overflow: body.parentElement.scrollWidth - body.parentElement.clientWidth,
    small: Math.min(...texts.map((node) => node.getBoundingClientRect().height)),
    contrast: Math.min(...texts.map(contrast)), background: view.getComputedStyle(body).backgroundColor,
    lines: [...body.querySelectorAll("figure")].filter((node) => node.checkVisibility()).length,
    broken: [...body.querySelectorAll("img")].filter((node) => !node.naturalWidth).length,
  };
}"""


@pytest.fixture
def runs(tmp_path):
    """Two runs, of which the first one was killed twice and has sheets of predictions."""
    (tmp_path / "a" / "predictions").mkdir(parents=True)
    for epoch in (1, 2):
        Image.new("RGB", (1600, 600), "white").save(tmp_path / "a" / "predictions" / f"epoch-{epoch:04}.png")
    smooth = MadeRun(rate=0.07)
    smooth.start()
    smooth.steps(30)
    smooth.end()
    write_run(tmp_path / "a", killed_run(), config={"seed": 1})
    return read_runs([tmp_path / "a", write_run(tmp_path / "b", smooth, config={"seed": 2})])


def test_the_page_loads_nothing_and_runs_nothing(runs):
    page = make_page(runs)
    assert "<script" not in page and " onload" not in page
    assert {address.partition(":")[0] for address in re.findall(r'(?:src|href)="([^"#]+)"', page)} == {"data"}
    assert "@import" not in page and "url(http" not in page
    # What is left names the kinds of XML.
    assert set(re.findall(r"https?://[^\"' )]+", page)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert len(page) < 300_000


def test_what_a_run_is_called_and_what_it_says_is_text_and_no_markup(tmp_path):
    run = MadeRun()
    run.start()
    run.steps(3)
    run.kill("<b>x</b> & y")
    page = make_page(read_runs([write_run(tmp_path / "<i>run", run)]))
    assert "&lt;b&gt;x&lt;/b&gt; &amp; y" in page and "&lt;i&gt;run" in page
    assert "<b>" not in page and "<i>" not in page


@pytest.mark.parametrize("value", [1e308, -1.7e308, 10**400, float("nan"), float("-inf")])
def test_a_number_that_cannot_be_drawn_is_left_out(tmp_path, value):
    run = MadeRun()
    run.start()
    run.lines[-1]["began"] = -value
    whole = {"step": 1, "time": run.now, "loss": 0.5, "learning_rate": 0.1}
    run.lines += [whole, *(whole | {name: value, "step": place} for place, name in enumerate(whole, 2))]
    run.lines.append(whole | {"step": value})
    runs = read_runs([write_run(tmp_path / "run", run, summary={"metrics": {"loss": value}, "steps": value})])
    assert runs[0].points("step", "loss") == [(1, 0.5), (2, 0.5), (3, 0.5), (5, 0.5)][: len(whole)]
    assert "<figcaption>loss</figcaption>" in make_page(runs)


def test_a_page_asks_for_its_next_version_only_while_it_is_live(runs):
    assert 'http-equiv="refresh"' not in make_page(runs)
    assert '<meta http-equiv="refresh" content="7">' in make_page(runs, 7)


def test_a_damaged_sheet_and_what_else_is_missing_are_told_on_the_page(tmp_path):
    folder = write_run(tmp_path / "run", killed_run())
    (folder / "predictions").mkdir()
    (folder / "predictions" / "epoch-0001.png").write_bytes(b"no picture")
    (folder / "summary.json").write_text("{")
    page = make_page(read_runs([folder]))
    missing = re.findall(r'<p class="missing">(.*?)</p>', page)
    assert missing[0] == "run: summary.json is damaged or half written, and is left out."
    assert missing[1].startswith("run, epoch-0001 cannot be read and is left out (")
    assert "<h2>Predictions</h2>" not in page


def test_a_folder_with_nothing_in_it_yet_is_a_page_that_says_so(tmp_path):
    (tmp_path / "logs").mkdir()
    page = make_page(read_runs([tmp_path]))
    assert page.count('class="missing"') == 3
    assert "<svg" not in page


@pytest.mark.slow
def test_a_browser_shows_both_kills_and_the_flag_that_differs_narrow_and_wide_light_and_dark(runs, tmp_path):
    page = make_page(runs)
    for dark in (False, True):
        found = look(page, SCRIPT, tmp_path, widths=(400, 1400), dark=dark)
        for width, seen in found.items():
            assert re.search(r"What differs in the configs\s+a\s+b\s+seed\s+1\s+2\s+Result", seen["text"])
            assert seen["text"].count("was killed by signal 9 (SIGKILL)") == 2
            assert {"✕1", "✕2", "a validation", "b validation", "restart", "repeated steps"} <= set(seen["svg"])
            assert (seen["overflow"], seen["broken"]) == (0, 0)
            # The time line, six curves and two sheets; of the two time lines one.
            assert seen["lines"] == 9
            # That of the WCAG for text of this size is 4.5.
            assert seen["contrast"] > 4.5
            assert seen["small"] > 8, width
        assert (found[400]["background"] == "rgb(13, 17, 23)") == dark
