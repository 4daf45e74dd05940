// Functions as a table: real rows, only those in sight, from the full data of the server. Sorted by its heads,
// walked with the arrow keys.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { address, type FunctionRow, type Functions } from "./api";
import { count, percent, share, weight } from "./format";
import { useApi } from "./hooks";
import { short_name, visible } from "./names";
import { Awaited, Bar, Empty } from "./parts";
import type { ViewProps } from "./shared";

const PAGE_ROWS = 200;
const ROW_PX = 26;
const AHEAD = 6;

interface TableProps extends ViewProps {
  compact?: boolean;
  label: string;
  onPick: (row: FunctionRow) => void;
}

export function FunctionTable(props: TableProps) {
  const { state, selection } = props;
  const [first, set_first] = useState(0);
  const scroller = useRef<HTMLDivElement>(null);
  const page = Math.floor(first / PAGE_ROWS);
  const question = (ix: number) => address("functions", { ...selection, sort: state.sort, search: state.search, limit: PAGE_ROWS, offset: ix * PAGE_ROWS });
  const here = useApi<Functions>(question(page));
  const total_rows = here.data?.count ?? 0;
  const next = useApi<Functions>((page + 1) * PAGE_ROWS < total_rows ? question(page + 1) : null);
  const place = `${JSON.stringify(selection)} ${state.sort} ${state.search}`;
  useEffect(() => {
    set_first(0);
    if (scroller.current !== null) scroller.current.scrollTop = 0;
  }, [place]);
  return (
    <Awaited answer={here} what="functions">
      {(data) => data.count === 0
        ? <Empty title={state.search === "" ? "No functions in this selection" : "No function matches"}>
            {state.search !== "" && <p><bdi>{visible(state.search.slice(0, 200))}</bdi> is in no name and no module. <code>/…/</code> searches by a regular expression.</p>}
          </Empty>
        : <Rows {...props} scroller={scroller} data={data} offset={here.fresh ? page * PAGE_ROWS : 0} more={next.fresh ? next.data?.rows : undefined} first={first} set_first={set_first} />}
    </Awaited>
  );
}

interface RowsProps extends TableProps {
  scroller: { current: HTMLDivElement | null };
  data: Functions;
  offset: number;
  more: FunctionRow[] | undefined;
  first: number;
  set_first: (first: number) => void;
}

function Rows(props: RowsProps) {
  const { data, offset, more, first, set_first, scroller, compact, state, change, label } = props;
  const [height, set_height] = useState(600);
  const [active, set_active] = useState(0);
  const wants_focus = useRef(false);
  const body = useRef<HTMLTableSectionElement>(null);
  const shown = Math.ceil(height / ROW_PX) + 2 * AHEAD;
  const from = Math.max(0, Math.min(first, data.count - 1) - AHEAD);
  const until = Math.min(data.count, from + shown);
  const row_at = (ix: number) => data.rows[ix - offset] ?? more?.[ix - offset - PAGE_ROWS];

  useEffect(() => {
    const element = scroller.current;
    if (element === null) return;
    const measure = () => set_height(element.clientHeight);
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    if (!wants_focus.current) return;
    wants_focus.current = false;
    body.current?.querySelector<HTMLElement>(`[data-row="${active}"] button`)?.focus({ preventScroll: true });
  });

  const go = (ix: number) => {
    const to = Math.max(0, Math.min(data.count - 1, ix));
    const element = scroller.current;
    if (element !== null) {
      const head = 30;
      const y = to * ROW_PX;
      if (y < element.scrollTop) element.scrollTop = y;
      else if (y + ROW_PX + head > element.scrollTop + element.clientHeight) element.scrollTop = y + ROW_PX + head - element.clientHeight;
      set_first(Math.floor(element.scrollTop / ROW_PX));
    }
    wants_focus.current = true;
    set_active(to);
  };
  const key = (event: KeyboardEvent) => {
    const page = Math.max(1, Math.floor(height / ROW_PX) - 2);
    const moves: Record<string, number> = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: data.count - 1 };
    if (!Object.hasOwn(moves, event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    go(moves[event.key] as number);
  };
  const head = (name: string, key_name: string, kind = "") => (
    <th scope="col" class={kind} aria-sort={state.sort === key_name ? (key_name === "name" ? "ascending" : "descending") : "none"}>
      <button type="button" onClick={() => change({ sort: key_name }, true)}>{name}{state.sort === key_name && <span aria-hidden="true"> {key_name === "name" ? "↑" : "↓"}</span>}</button>
    </th>
  );
  const rows = [];
  for (let ix = from; ix < until; ix++) {
    const row = row_at(ix);
    rows.push(row === undefined
      ? <tr key={ix} aria-rowindex={ix + 2} class="pending"><td colSpan={compact ? 3 : 4}>…</td></tr>
      : <Row key={ix} {...props} row={row} ix={ix} active={active === ix} onFocus={() => {
          set_active(ix);
          props.chosen.set({ name: row.name, module: row.module, hash: "", self: row.self, total: row.total, folded: 0, path: [row.name] });
        }} />);
  }
  return (
    <div class={compact ? "table compact" : "table"} ref={scroller} data-count={data.count} onScroll={(event) => set_first(Math.floor(event.currentTarget.scrollTop / ROW_PX))}>
      <table aria-label={label} aria-rowcount={data.count + 1} onKeyDown={key}>
        <thead>
          <tr aria-rowindex={1}>
            {head("Self", "self", "number")}
            {head("Total", "total", "number")}
            {head("Function", "name")}
            {!compact && <th scope="col">Module</th>}
          </tr>
        </thead>
        <tbody ref={body}>
          <Spacer rows={from} columns={compact ? 3 : 4} />
          {rows}
          <Spacer rows={data.count - until} columns={compact ? 3 : 4} />
        </tbody>
      </table>
      <span class="visually-hidden" role="status">{count(data.count)} functions</span>
    </div>
  );
}

function Row({ row, ix, active, onFocus, state, data, compact, colors, onPick }: RowsProps & { row: FunctionRow; ix: number; active: boolean; onFocus: () => void }) {
  const chosen = state.fn === row.name && (state.mod === "" || state.mod === row.module) && compact === true;
  return (
    <tr data-row={ix} aria-rowindex={ix + 2} class={chosen ? "chosen" : ""}>
      <Weight value={row.self} error={row.self_error} whole={data.total} unit={data.unit} compact={compact === true} />
      <Weight value={row.total} error={row.total_error} whole={data.total} unit={data.unit} compact={compact === true} />
      <td class="name">
        <button type="button" class="link" tabIndex={active ? 0 : -1} title={row.name.slice(0, 500)} onFocus={onFocus} onClick={() => onPick(row)}>
          {compact && <span class={colors.swatch(row.module)} aria-hidden="true" />}<bdi>{(compact ? short_name(row.name) : visible(row.name.slice(0, 400))) || "(no name)"}</bdi>
        </button>
      </td>
      {!compact && <td class="module"><span class={colors.swatch(row.module)} aria-hidden="true" /> {row.module !== "" ? visible(row.module.slice(0, 200)) : <span class="muted">{visible((row.file ?? "").slice(-120))}</span>}</td>}
    </tr>
  );
}

function Weight({ value, error, whole, unit, compact }: { value: number; error: number | undefined; whole: number; unit: string; compact: boolean }) {
  const part = whole > 0 ? value / whole : 0;
  return (
    <td class="number" title={`${weight(value, unit)}${error === undefined ? "" : ` ± ${weight(error, unit)} (95 %)`}`}>
      <span class="share">{share(value, whole)}</span>
      {!compact && error !== undefined && value > 0 && <span class="muted error-text">± {percent(error / Math.max(1, whole))}</span>}
      {!compact && <span class="muted amount">{weight(value, unit)}</span>}
      <Bar part={part} error={!compact && error !== undefined ? error / Math.max(1, whole) : undefined} />
    </td>
  );
}

function Spacer({ rows, columns }: { rows: number; columns: number }) {
  const ref = useRef<HTMLTableCellElement>(null);
  useLayoutEffect(() => {
    if (ref.current !== null) ref.current.style.height = `${rows * ROW_PX}px`;
  });
  return rows > 0 ? <tr aria-hidden="true" class="gap"><td ref={ref} colSpan={columns} /></tr> : null;
}
