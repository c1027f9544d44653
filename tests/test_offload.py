"""Jobs on native threads, with greenlets around them. gevent patches a whole process, so its cases run in their own."""

import subprocess
import sys

import pytest

from hmacfs.offload import InlinePool, make_pool

PRELUDE = """
from gevent import monkey
monkey.patch_all()

import gevent
from gevent.monkey import get_original
from hmacfs.offload import ThreadPool, make_pool

class RealEvent:  # for native threads, made of a lock that gevent did not replace
    def __init__(self):
        self._lock = get_original("_thread", "allocate_lock")()
        self._lock.acquire()
    def set(self):
        self._lock.release()
    def wait(self):
        assert self._lock.acquire(True, 20), "waited in vain"

native_id = get_original("_thread", "get_ident")
"""


def in_gevent(body: str) -> None:
    """Run ``body`` in a process that monkey-patches; its asserts are ours."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + body + "\nprint('passed')"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.stdout.strip(), done.stderr, done.returncode) == ("passed", "", 0)


def test_the_inline_pool_gives_the_result() -> None:
    assert InlinePool().run(divmod, 7, 3) == (2, 1)


def test_the_inline_pool_raises_what_the_job_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        InlinePool().run(divmod, 7, 0)


def test_without_gevent_a_job_is_a_plain_call() -> None:
    assert isinstance(make_pool(8), InlinePool)


def test_under_gevent_a_job_runs_on_a_native_thread_and_gives_its_result() -> None:
    in_gevent("""
pool = make_pool(2)
assert isinstance(pool, ThreadPool)
assert pool.run(divmod, 7, 3) == (2, 1)
assert pool.run(native_id) != native_id()
assert pool.run(lambda: None) is None
""")


def test_a_job_s_exception_reaches_its_caller_and_nothing_is_printed() -> None:
    in_gevent("""
class Odd(BaseException):
    pass

def fail(error):
    raise error

pool = ThreadPool(1)
for error in (KeyError("x"), OSError(28, "full"), Odd("odd"), SystemExit(3), KeyboardInterrupt()):
    try:
        pool.run(fail, error)
    except BaseException as caught:
        assert caught is error, caught
    else:
        raise AssertionError(error)
assert pool.run(int, "5") == 5
""")


def test_other_greenlets_run_while_a_job_blocks() -> None:
    in_gevent("""
pool = ThreadPool(1)
gate = RealEvent()
seen = []

def opener():
    seen.append("opener")
    gate.set()

blocked = gevent.spawn(pool.run, gate.wait)
gevent.spawn(opener)
blocked.get(timeout=20)
assert seen == ["opener"]
""")


def test_a_killed_greenlet_waits_for_its_job() -> None:
    in_gevent("""
pool = ThreadPool(2)
gate = RealEvent()
order = []

def job():
    gate.wait()
    order.append("job ended")

def victim():
    try:
        pool.run(job)
    finally:
        order.append("unwound")

greenlet = gevent.spawn(victim)
gevent.idle()
greenlet.kill(block=False)
gevent.idle()
greenlet.kill(block=False)
gevent.idle()
assert order == [], order
assert not greenlet.dead
gate.set()
greenlet.join(timeout=20)
assert order == ["job ended", "unwound"], order
assert isinstance(greenlet.value, gevent.GreenletExit)
assert pool.run(int, "5") == 5
""")


def test_a_timeout_is_raised_when_the_job_is_over() -> None:
    in_gevent("""
pool = ThreadPool(2)
gate = RealEvent()
order = []

def job():
    gate.wait()
    order.append("job ended")

class Late(Exception):
    pass

def caller():
    try:
        with gevent.Timeout(0.001, Late):
            pool.run(job)
    except Late:
        order.append("late")

greenlet = gevent.spawn(caller)
gevent.spawn_later(0.05, gate.set)
greenlet.get(timeout=20)
assert order == ["job ended", "late"], order
""")


def test_a_stray_wake_up_does_not_end_the_wait() -> None:
    in_gevent("""
pool = ThreadPool(1)
gate = RealEvent()

def job():
    gate.wait()
    return "result"

greenlet = gevent.spawn(pool.run, job)
gevent.idle()
gevent.get_hub().loop.run_callback(greenlet.switch, "stray")
gevent.idle()
assert not greenlet.ready()
gate.set()
assert greenlet.get(timeout=20) == "result"
""")


def test_many_concurrent_jobs_each_get_their_own_result() -> None:
    in_gevent("""
pool = ThreadPool(4)
running = set()
most = 0
lock = get_original("_thread", "allocate_lock")()

def job(number):
    global most
    with lock:
        running.add(number)
        most = max(most, len(running))
    total = sum(range(number % 97))
    with lock:
        running.discard(number)
    if number % 5 == 0:
        raise KeyError(number)
    return number, total

def caller(number):
    try:
        return pool.run(job, number)
    except KeyError as error:
        return error.args[0], "failed"

greenlets = [gevent.spawn(caller, number) for number in range(3000)]
gevent.joinall(greenlets, timeout=30, raise_error=True)
for number, greenlet in enumerate(greenlets):
    expected = "failed" if number % 5 == 0 else sum(range(number % 97))
    assert greenlet.value == (number, expected), greenlet.value
assert 1 <= most <= 4, most
""")


def test_no_more_jobs_run_at_once_than_there_are_threads() -> None:
    in_gevent("""
pool = ThreadPool(3)
gates = [RealEvent() for _ in range(6)]
started = []

def job(number):
    started.append(number)
    gates[number].wait()
    return number

greenlets = [gevent.spawn(pool.run, job, number) for number in range(6)]
while len(started) < 3:
    gevent.idle()
for _ in range(20):
    gevent.idle()
assert sorted(started) == [0, 1, 2], started
for gate in gates:
    gate.set()
assert [greenlet.get(timeout=20) for greenlet in greenlets] == list(range(6))
""")


def test_a_pool_keeps_working_after_killed_jobs() -> None:
    in_gevent("""
pool = ThreadPool(2)
for _ in range(20):
    gate = RealEvent()
    greenlet = gevent.spawn(pool.run, gate.wait)
    gevent.idle()
    greenlet.kill(block=False)
    gevent.idle()
    gate.set()
    greenlet.join(timeout=20)
    assert greenlet.dead
assert [g.get(timeout=20) for g in [gevent.spawn(pool.run, int, str(n)) for n in range(50)]] == list(range(50))
""")


def test_a_pool_that_cannot_start_a_thread_says_so_and_recovers() -> None:
    in_gevent("""
import errno
pool = ThreadPool(2)
start, broken = pool._start_thread, [True]

def start_or_fail(*args):
    if broken[0]:
        raise RuntimeError("can't start new thread")
    return start(*args)

pool._start_thread = start_or_fail
for _ in range(5):
    try:
        pool.run(int, "7")
    except OSError as error:
        assert error.errno == errno.EAGAIN
    else:
        raise AssertionError("a job ran on no thread")
broken[0] = False
assert pool.run(int, "7") == 7
broken[0] = True
assert [g.get(timeout=10) for g in [gevent.spawn(pool.run, int, "8") for _ in range(4)]] == [8] * 4
""")
