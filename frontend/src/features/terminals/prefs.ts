/** What somebody prefers of terminals, in this browser. */
import { useSyncExternalStore } from "react";

export interface Prefs {
  fontSize: number;
  /** Whether a program in a shell may write to the clipboard (OSC 52). */
  clipboard: boolean;
  /** Whether what is on the screen is said to a screen reader. */
  reader: boolean;
  /** Of the panel, in shares of the page. */
  share: number;
}

export const FONT_MIN = 8;
export const FONT_MAX = 32;
const KEY = "pilothouse.terminal";
const USUAL: Prefs = { fontSize: 13, clipboard: false, reader: false, share: 0.45 };
export const SHARE_MIN = 0.2;
export const SHARE_MAX = 0.8;

const clamp = (n: unknown, low: number, high: number, usual: number): number =>
  typeof n === "number" && Number.isFinite(n) ? Math.max(low, Math.min(high, n)) : usual;

/** Whatever stands there: another version's, or nonsense. */
export function readPrefs(stored: string | null): Prefs {
  let given: Partial<Record<keyof Prefs, unknown>> = {};
  try {
    const value: unknown = JSON.parse(stored ?? "{}");
    if (typeof value === "object" && value !== null) given = value;
  } catch {
    // as if there were nothing
  }
  return {
    fontSize: Math.round(clamp(given.fontSize, FONT_MIN, FONT_MAX, USUAL.fontSize)),
    clipboard: given.clipboard === true,
    reader: given.reader === true,
    share: clamp(given.share, SHARE_MIN, SHARE_MAX, USUAL.share),
  };
}

const listeners = new Set<() => void>();
let seen: { stored: string | null; prefs: Prefs } | undefined;

function stored(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // a browser that keeps nothing
  }
}

export function prefs(): Prefs {
  const now = stored();
  if (seen === undefined || seen.stored !== now) seen = { stored: now, prefs: readPrefs(now) };
  return seen.prefs;
}

export function prefer(change: Partial<Prefs>): void {
  const text = JSON.stringify(readPrefs(JSON.stringify({ ...prefs(), ...change })));
  try {
    localStorage.setItem(KEY, text);
  } catch {
    // it holds until the page is left
  }
  seen = { stored: stored(), prefs: readPrefs(text) };
  for (const wake of listeners) wake();
}

const listen = (wake: () => void): (() => void) => {
  listeners.add(wake);
  window.addEventListener("storage", wake);
  return () => {
    listeners.delete(wake);
    window.removeEventListener("storage", wake);
  };
};
export const usePrefs = (): Prefs => useSyncExternalStore(listen, prefs);
