// A JavaScript program that knows where its CPU time goes: 60 % burnMajor, 30 % burnMinor, 10 %
// burnRare, in long turns of the process' CPU clock. To be run with --perf-basic-prof, and with
// --no-turbo-inlining so that each of the three stays a function of its own.
// Usage: node split.js TRUTH.json CPU_SECONDS
'use strict';
const fs = require('fs');

function cpuMilliseconds() {
  const used = process.cpuUsage();
  return (used.user + used.system) / 1000;
}

function burnMajor(seed, until) {
  do {
    for (let i = 0; i < 200000; i++) seed = (Math.imul(seed ^ (seed >>> 15), 0x2c1b3c6d) + i) | 0;
  } while (cpuMilliseconds() < until);
  return seed;
}

function burnMinor(seed, until) {
  const table = new Int32Array(256);
  do {
    for (let i = 0; i < 200000; i++) {
      table[seed & 255] += i;
      seed = (Math.imul(seed, 1664525) + table[i & 255] + 1013904223) | 0;
    }
  } while (cpuMilliseconds() < until);
  return seed;
}

function burnRare(seed, until) {
  let x = seed / 4294967296;
  do {
    for (let i = 1; i < 100000; i++) x = Math.sqrt(x * x + 1 / i);
  } while (cpuMilliseconds() < until);
  return (x * 65536) | 0;
}

function runTurns(end) {
  const spent = { burnMajor: 0, burnMinor: 0, burnRare: 0 };
  const turns = [[burnMajor, 600], [burnMinor, 300], [burnRare, 100]];
  let seed = 42;
  let now = cpuMilliseconds();
  while (now < end) {
    for (const [work, milliseconds] of turns) {
      seed = work(seed, now + milliseconds);
      const after = cpuMilliseconds();
      spent[work.name] += Math.round((after - now) * 1e6);
      now = after;
    }
  }
  return [seed, spent];
}

const [, functions] = runTurns(Number(process.argv[3]) * 1000);
const cpu_ns = Math.round(cpuMilliseconds() * 1e6);
fs.writeFileSync(process.argv[2], JSON.stringify({ pid: process.pid, cpu_ns, functions }));
