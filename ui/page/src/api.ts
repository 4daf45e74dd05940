// The server's answers (the contract is ui/README.md), and how they are asked for. Everything is a GET below
// the page's own address; an error is `{code, message}`. Answers are kept by address, so that a change of
// the view asks nothing twice.

export interface ProfileType { id: string; name: string; unit: string; total: number; samples: number }
/** A session whose gaps are filled, as the views take it. */
export interface KnownSession extends Session { default_type: string; from: number; until: number }

export function known_session(session: Session): KnownSession {
  return { ...session, default_type: session.default_type ?? "", from: session.from ?? 0, until: session.until ?? 0 };
}

export type Loss = Record<string, number>;
export interface Session {
  version: string;
  source: "files" | "history";
  title: string;
  files?: { name: string; bytes: number }[];
  types: ProfileType[];
  /** Null where there are no samples. */
  default_type: string | null;
  from: number | null;
  until: number | null;
  timed: boolean;
  labels: string[];
  loss?: Loss;
  environment?: Record<string, unknown>;
  formats?: string[];
  panels?: string[];
  waits?: string[];
}
export interface Columns {
  depth: number[]; start: number[]; total: number[]; self: number[]; name: number[]; module: number[];
  folded: number[];
  /** Absent where no path can be asked for, "" for folded nodes. */
  hash?: string[];
  base?: number[];
}
export interface Tree {
  unit: string; total: number; samples?: number;
  root?: { hash: string; path: string[]; hashes?: string[] };
  names: string[]; modules: string[]; nodes: Columns; loss?: Loss;
}
export interface FunctionRow {
  name: string; module: string; file?: string; self: number; total: number;
  self_error?: number; total_error?: number;
}
export interface Functions { unit: string; total: number; count: number; rows: FunctionRow[] }
export interface SearchAnswer { total: number; share: number; functions: FunctionRow[] }
export interface Sandwich { unit: string; total: number; self: number; function_total: number; callers: Tree; callees: Tree }
export interface Series { from: number; step: number; unit: string; rows: { key: string; total: number; values: number[] }[]; more: number }
export interface Labels { labels: { name: string; values: { value: string; total: number }[]; more?: number }[] }
export type DiffClass = "slower" | "faster" | "new" | "gone" | "same" | string;
export interface DiffRow {
  name: string; module: string; base: number; new: number; base_share: number; new_share: number;
  delta_share: number; low?: number | null; high?: number | null; q?: number | null; class: DiffClass;
}
export interface DiffSide { total: number; samples: number; windows: number }
export interface Diff {
  unit: string; base: DiffSide; new: DiffSide; decidable: boolean; why?: string;
  environment: { key: string; base: string; new: string }[]; count?: number; rows: DiffRow[]; tree?: Tree;
}
export interface Source {
  functions: { name: string; file: string; found: boolean; why?: string; lines: { line: number; self: number; total: number; text?: string }[] }[];
}
export interface Threads extends Series { spans?: unknown[] }

export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, message: string) {
    super(message);
  }
}

export type Parameters = Record<string, string | number | undefined>;

/** The address of an answer, relative to the page. Parameters that are empty are left out. */
export function address(name: string, parameters: Parameters): string {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== "") query.set(key, String(value));
  }
  const text = query.toString();
  return `./api/${name}${text === "" ? "" : `?${text}`}`;
}

const KEPT = 48;
const answers = new Map<string, unknown>();

/** An answer that has been read before. */
export function kept<T>(url: string): T | undefined {
  return answers.get(url) as T | undefined;
}

export function forget_answers(): void {
  answers.clear();
  flights.clear();
}

interface Flight { promise: Promise<unknown>; controller: AbortController; users: number }

/** Questions that are under way: who asks the same waits for the same answer. */
const flights = new Map<string, Flight>();

export interface Joined<T> {
  promise: Promise<T>;
  /** This asker wants it no longer; when nobody does, the question is taken back. */
  leave: () => void;
  /** Takes the question back for all. */
  cancel: () => void;
}

export function join<T>(url: string): Joined<T> {
  let flight = flights.get(url);
  if (flight === undefined) {
    const controller = new AbortController();
    flight = { promise: ask<T>(url, controller.signal), controller, users: 0 };
    flights.set(url, flight);
    const made = flight;
    const land = () => {
      if (flights.get(url) === made) flights.delete(url);
    };
    flight.promise.then(land, land);
  }
  const joined = flight;
  joined.users++;
  return {
    promise: joined.promise as Promise<T>,
    leave: () => {
      joined.users--;
      if (joined.users > 0) return;
      if (flights.get(url) === joined) flights.delete(url);
      joined.controller.abort();
    },
    cancel: () => joined.controller.abort(),
  };
}

/** Asks the server. Errors are `ApiError`, also when nothing answers. */
export async function ask<T>(url: string, signal: AbortSignal): Promise<T> {
  let response: Response;
  try {
    response = await fetch(url, { signal, headers: { accept: "application/json" }, credentials: "same-origin" });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError(0, "unreachable", "The server does not answer. Is `profpipe ui` still running?");
  }
  if (!response.ok) throw await read_error(response);
  let answer: T;
  try {
    answer = (await response.json()) as T;
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError(response.status, "malformed", "The server's answer is not JSON.");
  }
  answers.delete(url);
  answers.set(url, answer);
  if (answers.size > KEPT) answers.delete(answers.keys().next().value as string);
  return answer;
}

async function read_error(response: Response): Promise<ApiError> {
  let code = String(response.status);
  let message = response.statusText || "The request failed.";
  try {
    const body = (await response.json()) as { code?: unknown; message?: unknown };
    if (typeof body.code === "string") code = body.code;
    if (typeof body.message === "string") message = body.message.slice(0, 2000);
  } catch {
    // Not ours: the status alone is told.
  }
  return new ApiError(response.status, code, message);
}
