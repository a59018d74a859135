/** Which terminal was open, for a reload of this browser tab: ids only. */
const KEY = "pilothouse.terminal.open";

interface Opened {
  session: string;
  /** The shell that was looked at. */
  shell?: string;
}

export function opened(session: string): Opened | undefined {
  try {
    const value: unknown = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    if (typeof value !== "object" || value === null) return undefined;
    const { session: of, shell } = value as Record<string, unknown>;
    return of === session ? { session, ...(typeof shell === "string" ? { shell } : {}) } : undefined;
  } catch {
    return undefined;
  }
}

export function remember(what: Opened | undefined): void {
  try {
    if (what) sessionStorage.setItem(KEY, JSON.stringify(what));
    else sessionStorage.removeItem(KEY);
  } catch {
    // a browser that keeps nothing opens none
  }
}
