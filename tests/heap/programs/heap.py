# Allocates in functions of its own and writes down how much: blocks of one size each, so that the interpreter's
# own objects do not matter. Ends without freeing what it keeps.
import os, sys, time
from itertools import repeat

truth, kept, counts = sys.argv[1], [], {}

def warm():
    bytes(5000)

def hundred(n):
    for _ in repeat(None, n):
        bytes(100)

def thousand(n):
    for _ in repeat(None, n):
        bytes(1000)

def tenthousand(n):
    for _ in repeat(None, n):
        bytes(10000)

def keep(n):
    for _ in repeat(None, n):
        kept.append(bytes(5000))

class Caller:
    def method(self, n):
        thousand(n)

# The recorder needs a moment to find the interpreter.
end = time.time() + 1.5
while time.time() < end:
    warm()
for _ in repeat(None, 100):
    hundred(10000)
    Caller().method(1000)
    tenthousand(100)
    keep(50)
# And one to read the names.
time.sleep(0.5)
with open(truth, "w") as file:
    # A block of bytes has a head of 32 bytes and a zero at its end.
    for name, blocks, size in (("hundred", 1e6, 133), ("thousand", 1e5, 1033), ("tenthousand", 1e4, 10033), ("keep", 5e3, 5033)):
        print(name, blocks, size, file=file)
os._exit(0)
