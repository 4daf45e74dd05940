// What every view is given.

import type { KnownSession, Parameters } from "./api";
import type { ModuleColors, Theme } from "./color";
import type { FlameControl, Node } from "./flame";
import type { Signal } from "./hooks";
import type { State } from "./link";

export interface ViewProps {
  session: KnownSession;
  state: State;
  /** Changes the state; `replace` leaves no step for the back button. */
  change: (part: Partial<State>, replace?: boolean) => void;
  /** Parameters of the selection, common to all questions. */
  selection: Parameters;
  unit: string;
  theme: Theme;
  colors: ModuleColors;
  over: Signal<Node | undefined>;
  chosen: Signal<Node | undefined>;
  control: Signal<FlameControl | undefined>;
  matches: ((name: string) => boolean) | undefined;
}

/** Pixels that trees are pruned for: in steps, so that a moved window edge asks nothing new. */
export function pruning_width(): number {
  return Math.max(800, Math.ceil(innerWidth / 400) * 400);
}
