"""Deadlines that end when a test says so."""

from __future__ import annotations

import signal
import threading


def let_it_pass() -> None:
    """Have the deadline that the main thread is under go off now: the signal is what its timer sends."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)
