"""``sandbox --replica``: a site whose plain reads are behind, for anybody to try."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

from support.command import Command
from support.gateways import client_of, gateway_of

from evergreen_groups import exit_status


def test_plain_reads_are_behind(tmp_path: Path) -> None:
    run = Command(tmp_path, None)
    words = run.arguments("sandbox", "--port", "0", "--replica", "86400")
    with subprocess.Popen(
        words, env=run.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert address
            with gateway_of(address[0], "consortium_staff") as gateway:
                moves = client_of(gateway, tmp_path).moves
                assert moves.plan_move(["20000000001052"], to="20000000001007").apply().done
                assert [record.usrgroup for record in gateway.pcrud.search("au", {"id": 1052})] == [1015]
            process.send_signal(signal.SIGINT)
            process.communicate()
            assert process.returncode == exit_status.INTERRUPTED
        finally:
            process.kill()
