/** The tabs of a session's terminal panel, by shell. */
import type { ShellRow } from "../../net/shells.ts";
import { Tab } from "./tab.ts";
import type { TabHost } from "./tab.ts";

/** An id may be used again after its shell has ended: that is another shell. */
export const keyOf = (shell: ShellRow): string => `${shell.shellId} ${shell.startedAt}`;

/** Nobody has chosen a shell, and none was there to begin with. */
export const NOTHING = "";

/**
 * The shell to show. `pinned` is the key of the one that is shown, and stays so whatever becomes of it or of others: who
 * types must not find that it went to another shell. After a reload it is an id alone; before that nothing, which takes
 * the newest that runs.
 */
export function shownOf(rows: readonly ShellRow[], pinned: string | undefined): ShellRow | undefined {
  if (pinned === NOTHING) return undefined;
  const wanted = rows.find((one) => keyOf(one) === pinned) ?? rows.findLast((one) => one.shellId === pinned);
  return wanted ?? rows.findLast((one) => one.running) ?? rows.at(-1);
}

export class Tabs {
  private readonly opened = new Map<string, { shell: ShellRow; tab: Tab }>();
  private readonly closed = new Set<string>();
  private leaving: ReturnType<typeof setTimeout> | undefined;

  /** What there is to be shown: the session's shells, and those that ended here and were not closed. */
  rows(shells: readonly ShellRow[]): ShellRow[] {
    const all = new Map(shells.map((one) => [keyOf(one), one]));
    for (const [key, { shell }] of this.opened) if (!all.has(key)) all.set(key, { ...shell, running: false });
    const rows = [...all.values()].filter((one) => !this.closed.has(keyOf(one)));
    rows.sort((a, b) => a.startedAt.localeCompare(b.startedAt));
    return rows;
  }

  get(shell: ShellRow, host: TabHost): Tab {
    const key = keyOf(shell);
    const found = this.opened.get(key)?.tab ?? new Tab(host);
    this.opened.set(key, { shell, tab: found });
    return found;
  }

  known(shell: ShellRow): Tab | undefined {
    return this.opened.get(keyOf(shell))?.tab;
  }

  close(shell: ShellRow): void {
    const key = keyOf(shell);
    this.opened.get(key)?.tab.dispose();
    this.opened.delete(key);
    this.closed.add(key);
  }

  each(act: (tab: Tab) => void): void {
    for (const { tab } of this.opened.values()) act(tab);
  }

  /** The panel is there. */
  keep(): void {
    clearTimeout(this.leaving);
  }

  /** The panel is gone, unless it is back at once, as React tries in development. */
  release(): void {
    this.leaving = setTimeout(() => {
      this.each((tab) => tab.dispose());
      this.opened.clear();
    }, 0);
  }
}
