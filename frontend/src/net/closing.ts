/** Close codes by range: the number alone says whether to come back. */
export type AfterClose = "again" | "signin" | "stay";

export const TOO_SLOW = 4508;

export function afterClose(code: number): AfterClose {
  if (code === 4401) return "signin";
  if (code === 1008 || code === 1009) return "stay";
  if (code >= 4400 && code <= 4499) return "stay";
  // 1001 and 4500–4599 ask to come back; what is left (1005, 1006, 1011 …) is the network or a restart.
  return "again";
}

export const BACKOFF_FIRST_MS = 400;
export const BACKOFF_MAX_MS = 15_000;

/** Full jitter over a doubling span: many pages that lost one server do not return in one instant. */
export function backoff(attempt: number, random: number): number {
  const span = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 10));
  return Math.round(span / 4 + random * span * 0.75);
}

/** A shell that was typed in waits a minute for its typist after a restart: come back sooner than a page in general. */
export const SHELL_WAIT_MAX_MS = 3_000;
