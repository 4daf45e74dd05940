"""Runs functions by number for some tenths of a millisecond each, through recursion, generators,
callbacks from C and compiled text, and writes down when it ran which: what a profiler shows for an
instant must be the calls of the number at that instant.

numbers.py SECONDS LOG THREADS CHILDREN: so many seconds of CPU time for each thread
"""
import array
import functools
import os
import random
import sys
import threading
import time

NUMBERS = 48
SOURCE = []
for number in range(NUMBERS):
    SOURCE.append(f"""
def work_{number}(end):
    total = 0
    HERE.entered = CLOCK()
    while CLOCK() < end:
        for i in range(20):
            total += i * {number}
    return total
def inner_{number}(depth, end):
    if depth > 0:
        return inner_{number}(depth - 1, end) + 1
    return work_{number}(end)
def generate_{number}(end):
    yield inner_{number}({number} % 3, end)
def key_{number}(end):
    return inner_{number}({number} % 2, end)
def direct_{number}(end):
    return inner_{number}({number} % 5, end)
def iterate_{number}(end):
    return sum(generate_{number}(end))
def order_{number}(end):
    return sorted([end], key=key_{number})
def reduce_{number}(end):
    return functools.reduce(lambda total, it: total + key_{number}(it), [end], 0)
""")
CLOCK = time.monotonic_ns
HERE = threading.local()
exec(compile("\n".join(SOURCE), "numbers.py", "exec"))
KINDS = ["direct", "iterate", "order", "reduce"]
CALLS = [globals()[f"{KINDS[n % 4]}_{n}"] for n in range(NUMBERS)]

def serve(seconds, log, seed):
    own = threading.get_native_id()
    pick = random.Random(seed)
    while True:
        number = pick.randrange(NUMBERS)
        start = CLOCK()
        if time.thread_time() > seconds:
            return
        end = start + pick.randrange(100_000, 400_000)
        CALLS[number](end)
        log.append(HERE.entered)
        log.append(end)
        log.append(number)
        log.append(own)

def offset():
    """From the monotonic clock to the time of the day, where nothing interrupted between the two."""
    readings = [(CLOCK(), time.clock_gettime_ns(time.CLOCK_REALTIME), CLOCK()) for _ in range(100)]
    before, day, after = min(readings, key=lambda reading: reading[2] - reading[0])
    return day - (before + after) // 2


def main():
    seconds, path, threads, children = float(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    is_child = False
    for n in range(children):
        if os.fork() == 0:
            path, is_child = f"{path}.{n}", True
            break
    logs = [array.array("q") for _ in range(threads + 1)]
    others = [threading.Thread(target=serve, args=(seconds, log, n)) for n, log in enumerate(logs[1:])]
    for other in others:
        other.start()
    serve(seconds, logs[0], 1000 + is_child)
    for other in others:
        other.join()
    with open(path, "w") as out:
        out.write(f"{offset()}\n")
        for log in logs:
            for at in range(0, len(log), 4):
                out.write(f"{log[at]} {log[at + 1]} {log[at + 2]} {log[at + 3]}\n")
    if not is_child:
        for _ in range(children):
            os.wait()


main()
