"""Progress where there is no terminal: plain lines that say how far and how fast."""

import re

from genlm.runs import progress


def test_each_work_has_a_bar_of_its_own(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    with progress.Bars("bytes") as bars:
        bars.report("download a.txt", 0, 2000)
        bars.report("download a.txt", 2000, 2000)
        bars.report("download b.txt", 500, None)  # resumed, of nobody knows how much
    first, second, third = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"download a.txt: 0 of 2,000, .* left, 0.0 bytes/s", first)
    assert re.fullmatch(r"download a.txt: 2,000 of 2,000, 0:00 left, .*/s", second)
    assert re.fullmatch(r"download b.txt: 500, 0.0 bytes/s", third)
