// Numbers as text: weights in their unit, shares, durations, times of day. Pure, tested by
// tests/format.test.ts. A share is told with as many digits as help: 12.3 %, 0.04 %, < 0.01 %.

const THIN = "\u202f";

function digits(value: number): string {
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  return value.toFixed(2);
}

function scaled(value: number, steps: readonly (readonly [number, string])[]): string {
  const size = Math.abs(value);
  for (const [factor, unit] of steps) {
    if (size >= factor * 0.9995) return digits(value / factor) + THIN + unit;
  }
  const last = steps[steps.length - 1];
  return last === undefined || value === 0 ? "0" : digits(value / last[0]) + THIN + last[1];
}

const DURATIONS = [
  [86_400e9, "d"], [3600e9, "h"], [60e9, "min"], [1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"],
] as const;
const BYTES = [
  [2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"],
] as const;

const NANOSECONDS: Record<string, number> = {
  nanoseconds: 1, nanosecond: 1, ns: 1, microseconds: 1e3, milliseconds: 1e6, seconds: 1e9,
};

/** A weight in its unit: nanoseconds as a duration, bytes as KiB…, all else as a count. */
export function weight(value: number, unit: string): string {
  const factor = Object.hasOwn(NANOSECONDS, unit) ? NANOSECONDS[unit] : undefined;
  if (factor !== undefined) return scaled(value * factor, DURATIONS);
  if (unit === "bytes") return scaled(value, BYTES);
  return count(value);
}

/** A whole number with thin spaces between thousands. */
export function count(value: number): string {
  const whole = Math.round(value).toString();
  return whole.replace(/\B(?=(\d{3})+$)/g, THIN);
}

/** `part` of `whole` in per cent. */
export function share(part: number, whole: number): string {
  if (!(whole > 0)) return "–";
  return percent(part / whole);
}

export function percent(ratio: number): string {
  const value = ratio * 100;
  const size = Math.abs(value);
  if (size === 0) return "0" + THIN + "%";
  if (size < 0.01) return (value < 0 ? "> −" : "< ") + "0.01" + THIN + "%";
  const text = size >= 99.95 ? size.toFixed(0) : size >= 1 ? size.toFixed(1) : size.toFixed(2);
  return (value < 0 ? "−" : "") + text + THIN + "%";
}

/** A difference of shares in percentage points, always with its sign. */
export function points(difference: number): string {
  const value = difference * 100;
  const text = Math.abs(value).toFixed(Math.abs(value) < 0.995 ? 2 : 1);
  if (Number(text) === 0) return "0";
  return (value > 0 ? "+" : "−") + text;
}

/** A rate over time as people read it: CPU nanoseconds are cores, bytes are bytes a second. */
export function rate(value: number, milliseconds: number, unit: string): string {
  if (!(milliseconds > 0)) return "–";
  const factor = Object.hasOwn(NANOSECONDS, unit) ? NANOSECONDS[unit] : undefined;
  if (factor !== undefined) {
    const cores = (value * factor) / (milliseconds * 1e6);
    return (cores >= 100 ? cores.toFixed(0) : cores >= 10 ? cores.toFixed(1) : cores.toFixed(2)) + THIN + "cores";
  }
  return weight((value * 1000) / milliseconds, unit) + "/s";
}

/** A length of time in milliseconds. */
export function span(milliseconds: number): string {
  return scaled(milliseconds * 1e6, DURATIONS);
}

const two = (n: number) => String(n).padStart(2, "0");

/** A time of day, local, with as much of it as a span of `range` milliseconds needs. */
export function clock(ms: number, range: number): string {
  const at = new Date(ms);
  if (Number.isNaN(at.getTime())) return "–";
  const time = `${two(at.getHours())}:${two(at.getMinutes())}`;
  if (range > 2 * 86_400_000) return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
  if (range > 20 * 60_000) return time;
  const seconds = `${time}:${two(at.getSeconds())}`;
  return range < 5000 ? `${seconds}.${String(at.getMilliseconds()).padStart(3, "0")}` : seconds;
}

/** Round times at which an axis of `range` ms and at most `most` labels has its ticks. */
export function ticks(from: number, until: number, most: number): number[] {
  const range = until - from;
  if (!(range > 0) || most < 1) return [];
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 10e3, 15e3, 30e3, 60e3, 120e3, 300e3,
    600e3, 900e3, 1800e3, 3600e3, 7200e3, 10800e3, 21600e3, 43200e3, 86400e3, 172800e3, 604800e3];
  const step = steps.find((s) => range / s <= most) ?? Math.ceil(range / most / 604800e3) * 604800e3;
  const offset = step >= 3600e3 ? new Date(from).getTimezoneOffset() * 60_000 : 0;
  const found: number[] = [];
  for (let at = Math.ceil((from - offset) / step) * step + offset; at <= until; at += step) found.push(at);
  return found;
}
