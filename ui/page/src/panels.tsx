// Governor and pipeline: what the status line knows, as tables. Their answers are plain objects; a list of objects is
// a table, all else a line. Shown where the server has them.

import { address } from "./api";
import { count, weight } from "./format";
import { useApi } from "./hooks";
import { visible } from "./names";
import { Awaited, Empty } from "./parts";

const MAX_ROWS = 500;
const MAX_DEPTH = 4;

export function Panel({ name, title }: { name: string; title: string }) {
  const answer = useApi<unknown>(address(name, {}));
  return (
    <div class="panel-view" tabIndex={0} role="region" aria-label={title}>
      <Awaited answer={answer} what={title.toLowerCase()}>
        {(data) => data !== null && typeof data === "object" && Object.keys(data).length > 0
          ? <Value value={data} name={title} depth={0} />
          : <Empty title={`Nothing is known of the ${title.toLowerCase()}`} />}
      </Awaited>
    </div>
  );
}

type Plain = Record<string, unknown>;
const is_object = (value: unknown): value is Plain => value !== null && typeof value === "object" && !Array.isArray(value);

export function label(key: string): string {
  const words = key.replace(/_(bytes|hz|ns|ms|seconds)$/, "").replace(/[_.]/g, " ");
  if (/^(cpu|rss|cpus)$/.test(words)) return words.replace(/cpu|rss/, (w) => w.toUpperCase());
  return visible(words.charAt(0).toUpperCase() + words.slice(1)).slice(0, 100);
}

/** A value as text, by the unit that its key ends with. */
export function plain(key: string, value: unknown): string {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") {
    if (/bytes$/.test(key)) return weight(value, "bytes");
    if (/_ns$|nanoseconds$/.test(key)) return weight(value, "nanoseconds");
    if (/_ms$/.test(key)) return weight(value * 1e6, "nanoseconds");
    if (/seconds$/.test(key)) return weight(value * 1e9, "nanoseconds");
    if (/_hz$/.test(key)) return `${value} Hz`;
    return Number.isInteger(value) ? count(value) : value.toPrecision(4);
  }
  if (typeof value === "string") return visible(value.slice(0, 2000));
  return visible(JSON.stringify(value).slice(0, 500));
}

function Value({ value, name, depth }: { value: unknown; name: string; depth: number }) {
  if (Array.isArray(value) && value.length > 0 && value.every(is_object)) return <ObjectTable rows={value} name={name} />;
  if (!is_object(value) || depth > MAX_DEPTH) return <p>{plain(name, value)}</p>;
  const entries = Object.entries(value);
  const lines = entries.filter(([, v]) => !is_object(v) && !(Array.isArray(v) && v.some(is_object)));
  const groups = entries.filter(([, v]) => is_object(v) || (Array.isArray(v) && v.some(is_object)));
  return (
    <>
      {lines.length > 0 && <dl class="facts">{lines.map(([key, v]) => <div key={key}><dt>{label(key)}</dt><dd>{plain(key, v)}</dd></div>)}</dl>}
      {groups.map(([key, v]) => (
        <section key={key} aria-label={label(key)}>{depth === 0 ? <h2>{label(key)}</h2> : <h3>{label(key)}</h3>}<Value value={v} name={key} depth={depth + 1} /></section>
      ))}
    </>
  );
}

function ObjectTable({ rows, name }: { rows: Plain[]; name: string }) {
  const keys = [...new Set(rows.slice(0, MAX_ROWS).flatMap((row) => Object.keys(row)))].slice(0, 30);
  const numeric = new Set(keys.filter((key) => rows.every((row) => row[key] === undefined || typeof row[key] === "number")));
  return (
    <div class="table-room">
      <table aria-label={label(name)}>
        <thead><tr>{keys.map((key) => <th scope="col" key={key} class={numeric.has(key) ? "number" : ""}>{label(key)}</th>)}</tr></thead>
        <tbody>{rows.slice(0, MAX_ROWS).map((row, i) => (
          <tr key={i}>{keys.map((key) => <td key={key} class={numeric.has(key) ? "number" : ""}>{row[key] === undefined ? "" : plain(key, row[key])}</td>)}</tr>
        ))}</tbody>
      </table>
    </div>
  );
}
