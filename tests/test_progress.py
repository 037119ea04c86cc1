import pytest

from simclr_tf import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves by 25 seconds at each look."""
    now = iter(range(0, 10_000, 25))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))


def test_lines_with_the_time_left_where_there_is_no_terminal(clock, capsys):
    assert list(progress.progress("abcdefg", "counting", 7)) == list("abcdefg")
    assert capsys.readouterr().out.splitlines() == [
        "counting: 3 of 7, about 0:01:40 left", "counting: 6 of 7, about 0:00:25 left",
    ]  # fmt: skip


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(progress.progress([1, 2], "counting", 2)) == [1, 2]
    assert "counting" in capsys.readouterr().out


def test_nothing_is_said_about_what_is_short(capsys):
    assert list(progress.progress([1, 2], "counting", 2)) == [1, 2]
    assert capsys.readouterr().out == ""
