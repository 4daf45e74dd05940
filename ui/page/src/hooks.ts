// What the views share: values that many places watch, answers of the server, sizes of elements, the theme.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError, join, kept } from "./api";
import type { Theme } from "./color";

/** A value that is watched from several places without drawing the whole page anew. */
export class Signal<T> {
  private readonly watchers = new Set<(value: T) => void>();
  constructor(private current: T) {}
  get value(): T {
    return this.current;
  }
  set(value: T): void {
    if (value === this.current) return;
    this.current = value;
    for (const watcher of this.watchers) watcher(value);
  }
  watch(watcher: (value: T) => void): () => void {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  }
}

export function useSignal<T>(signal: Signal<T>): T {
  const [value, set] = useState(signal.value);
  useEffect(() => {
    set(signal.value);
    return signal.watch(set);
  }, [signal]);
  return value;
}

export interface Answer<T> {
  /** The newest answer; while another is awaited, still the one before. */
  data: T | undefined;
  /** Whether `data` belongs to the address that was asked for. */
  fresh: boolean;
  error: ApiError | undefined;
  loading: boolean;
  retry: () => void;
  cancel: () => void;
}

/** Raised when everything is to be asked anew, for a history that grows. */
export const generation = new Signal(0);

/** The answer of `url`; nothing is asked while it is null. */
export function useApi<T>(url: string | null): Answer<T> {
  const [answer, set] = useState<{ url: string | null; data?: T; error?: ApiError }>({ url: null });
  const [attempt, set_attempt] = useState(0);
  const under_way = useRef<(() => void) | undefined>(undefined);
  const asked = useSignal(generation);
  useEffect(() => {
    if (url === null) return;
    const known = kept<T>(url);
    if (known !== undefined) {
      set({ url, data: known });
      return;
    }
    const flight = join<T>(url);
    let left = false;
    under_way.current = flight.cancel;
    flight.promise.then(
      (data) => {
        if (!left) set({ url, data });
      },
      (error: unknown) => {
        if (left) return;
        const told = error instanceof ApiError ? error : new ApiError(0, "cancelled", "Cancelled.");
        set((before) => ({ url, error: told, ...(before.data === undefined ? {} : { data: before.data }) }));
      },
    );
    return () => {
      left = true;
      flight.leave();
    };
  }, [url, attempt, asked]);
  const retry = useCallback(() => {
    set((before) => ({ url: null, ...(before.data === undefined ? {} : { data: before.data }) }));
    set_attempt((n) => n + 1);
  }, []);
  const cancel = useCallback(() => under_way.current?.(), []);
  const known = url === null ? undefined : kept<T>(url);
  const current = answer.url === url;
  const error = current ? answer.error : undefined;
  return {
    data: known ?? answer.data, fresh: known !== undefined || (current && error === undefined), error,
    loading: url !== null && known === undefined && !current, retry, cancel,
  };
}

/** Seconds since something began to be slow; 0 while it is not. */
export function useWaiting(waiting: boolean): number {
  const [seconds, set] = useState(0);
  useEffect(() => {
    set(0);
    if (!waiting) return;
    const began = performance.now();
    const timer = setInterval(() => set((performance.now() - began) / 1000), 250);
    return () => clearInterval(timer);
  }, [waiting]);
  return seconds;
}

/** Size of an element's content, watched. */
export function useSize<E extends HTMLElement>(): [{ current: E | null }, number, number] {
  const ref = useRef<E>(null);
  const [size, set] = useState<[number, number]>([0, 0]);
  useEffect(() => {
    const element = ref.current;
    if (element === null) return;
    const observer = new ResizeObserver(() => set([element.clientWidth, element.clientHeight]));
    observer.observe(element);
    set([element.clientWidth, element.clientHeight]);
    return () => observer.disconnect();
  }, []);
  return [ref, size[0], size[1]];
}

export type ThemeChoice = "auto" | Theme;
const THEME_KEY = "profpipe.theme";

function stored_theme(): ThemeChoice {
  try {
    const value = localStorage.getItem(THEME_KEY);
    return value === "light" || value === "dark" ? value : "auto";
  } catch {
    return "auto";
  }
}

/** The theme in force, what was chosen, and how to choose. */
export function useTheme(): [Theme, ThemeChoice, (choice: ThemeChoice) => void] {
  const [choice, set] = useState<ThemeChoice>(stored_theme);
  const [system, set_system] = useState<Theme>(() => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const change = () => set_system(query.matches ? "dark" : "light");
    query.addEventListener("change", change);
    return () => query.removeEventListener("change", change);
  }, []);
  const theme = choice === "auto" ? system : choice;
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
  }, [theme]);
  const choose = (next: ThemeChoice) => {
    try {
      localStorage.setItem(THEME_KEY, next);
    } catch {
      // Kept for this page only.
    }
    set(next);
  };
  return [theme, choice, choose];
}

export function reduced_motion(): boolean {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
