// A service on Node.js that pushes wall, CPU and heap profiles with Pyroscope's SDK.
//
//	node work.js http://127.0.0.1:4040 SERVICE
//
// Works in rounds of known names until it has used two seconds of CPU time, sends what it has and
// prints "pushed" and the CPU seconds of the process.
"use strict";

const Pyroscope = require("@pyroscope/nodejs");

const [server, service] = process.argv.slice(2);
const kept = [];

function burn(rounds) {
  let x = 2463534242;
  for (let round = 0; round < rounds; round++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
  }
  return x;
}

function burnTwice(rounds) {
  return burn(2 * rounds);
}

function burnOnce(rounds) {
  return burn(rounds);
}

function allocateObjects() {
  kept.push(Array.from({ length: 10_000 }, (_, index) => ({ index })));
  if (kept.length > 20) kept.length = 0;
}

const cpuSeconds = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

async function main() {
  Pyroscope.init({
    serverAddress: server,
    appName: service,
    tags: { zone: "north" },
    flushIntervalMs: 1000,
    wall: { collectCpuTime: true, samplingDurationMs: 1000 },
  });
  Pyroscope.start();
  while (cpuSeconds() < 2.5) {
    Pyroscope.wrapWithLabels({ route: "/twice" }, () => burnTwice(1_000_000));
    Pyroscope.wrapWithLabels({ route: "/once" }, () => burnOnce(1_000_000));
    allocateObjects();
    await new Promise((resolve) => setTimeout(resolve, 5)); // uploads need the event loop
  }
  await Pyroscope.stop();
  console.log("pushed", cpuSeconds());
  process.exit(0);
}

main();
