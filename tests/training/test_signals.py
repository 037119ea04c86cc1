"""What asks a run to end: signals, and the notice of a cloud."""

import http.server
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from simclr_tf.training.signals import Interrupted, interruptible, stopping
from tests.conftest import ROOT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_carries_how_to_go_on_and_the_handlers_come_back(number):
    outer = signal.signal(number, signal.SIG_DFL)  # under nohup, SIGHUP is ignored
    try:
        with pytest.raises(Interrupted, match="go on") as caught, interruptible("go on"):
            signal.raise_signal(number)
        assert caught.value.number == (signal.SIGTERM if number == signal.SIGUSR1 else number)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, outer)


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible("go on"):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("number", "ends_as"),
    [("SIGINT", "SIGINT"), ("SIGTERM", "SIGTERM"), ("SIGUSR1", "SIGTERM"), ("SIGHUP", "SIGHUP")],
)
def test_a_signal_is_noted_once_and_a_second_ctrl_c_ends_the_process(number, ends_as, capfd):
    outer = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, it is ignored
    before = signal.getsignal(signal.SIGUSR1)
    with stopping() as stop:
        assert stop.number is None
        signal.raise_signal(signal.Signals[number])
        assert stop.number == signal.Signals[ends_as]
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        for again in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):  # of a scheduler, after the first
            signal.raise_signal(again)
        assert stop.number == signal.Signals[ends_as]
    assert signal.getsignal(signal.SIGUSR1) is before
    signal.signal(signal.SIGHUP, outer)
    assert capfd.readouterr().err == f"note     {number}: finishing the step, then saving\n"


def test_a_worker_that_saves_nothing_says_so(capfd):
    with stopping(saves=False):
        signal.raise_signal(signal.SIGTERM)
    assert "SIGTERM: ending with the chief" in capfd.readouterr().err


def test_signals_are_left_alone_in_other_threads():
    seen = []

    def work():
        with stopping() as stop:
            seen.append((stop.number, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]


def test_a_notice_of_the_cloud_is_a_sigterm(monkeypatch):
    answers, asked = [b"F", b"FALSE", b"TRUE"], []

    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            asked.append((self.path, self.headers["Metadata-Flavor"]))
            answer = answers.pop(0)
            self.send_response(200)
            self.send_header("Content-Length", str(max(4, len(answer))))  # more than the first one has
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            """Nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    program = """
        import time
        from simclr_tf.training.signals import stopping
        with stopping() as stop:
            end = time.monotonic() + 30
            while stop.number is None and time.monotonic() < end:
                time.sleep(0.05)
            print(stop.number)
    """
    environment = {"GCE_METADATA_HOST": f"127.0.0.1:{server.server_port}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True, check=True
    )
    server.shutdown()
    assert done.stdout.strip() == str(int(signal.SIGTERM))
    assert asked == [("/computeMetadata/v1/instance/preempted?wait_for_change=true", "Google")] * 3


def test_a_signal_is_noted_where_nobody_reads_the_note(monkeypatch):
    def gone(*args):
        raise BrokenPipeError

    monkeypatch.setattr("simclr_tf.training.signals.os.write", gone)
    with stopping() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.number == signal.SIGTERM
