"""A Python program that knows where its CPU time goes, by the interpreter's own functions:
60 % in long_pow (big powers), 30 % in builtin_sorted, 10 % in plain bytecode.

A native profiler sees the interpreter, so these are C functions of CPython. Long turns of the
thread's CPU clock. Usage: python3 split.py TRUTH.json CPU_SECONDS
"""
import json
import random
import resource
import sys
import time


def big_powers(until):
    while time.thread_time_ns() < until:
        pow(0x123456789ABCDEF123456789ABCDEF, 3001, (1 << 2203) - 1)


def sorting(until):
    numbers = random.Random(1).sample(range(1 << 20), 20000)
    while time.thread_time_ns() < until:
        sorted(numbers)


def bytecode(until):
    total = 0
    while time.thread_time_ns() < until:
        for i in range(5000):
            total = (total * 31 + i) & 0xFFFF
    return total


def run_turns(end):
    spent = {"long_pow": 0, "builtin_sorted": 0, "bytecode": 0}
    turns = [("long_pow", big_powers, 600), ("builtin_sorted", sorting, 300), ("bytecode", bytecode, 100)]
    now = time.thread_time_ns()
    while now < end:
        for name, work, milliseconds in turns:
            work(now + milliseconds * 1_000_000)
            after = time.thread_time_ns()
            spent[name] += after - now
            now = after
    return spent


spent = run_turns(int(float(sys.argv[2]) * 1e9))
used = resource.getrusage(resource.RUSAGE_SELF)
with open(sys.argv[1], "w", encoding="utf-8") as out:
    json.dump({"cpu_ns": round((used.ru_utime + used.ru_stime) * 1e9), "functions": spent}, out)
