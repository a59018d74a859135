/** Periods, and how rows and figures of usage are said. Days are days of UTC, as the server counts them. */
import type { Used } from "../../net/usage.ts";

export const FIELDS = ["day", "person", "key", "session", "model"] as const;
export type Field = (typeof FIELDS)[number];

export const PERIODS = [
  { value: "7", label: "Last 7 days" },
  { value: "30", label: "Last 30 days" },
  { value: "90", label: "Last 90 days" },
  { value: "month", label: "This month" },
  { value: "before", label: "Last month" },
  { value: "own", label: "From … to …" },
] as const;
export type Period = (typeof PERIODS)[number]["value"];

export interface Days {
  from: string;
  to: string;
}

const DAY_MS = 86_400_000;
const dayOf = (time: number): string => new Date(time).toISOString().slice(0, 10);

/** Both days are in it. */
export function daysOf(period: Period, now: number, own: Days): Days {
  if (period === "own") return own;
  const today = new Date(now);
  const month = (back: number): number => Date.UTC(today.getUTCFullYear(), today.getUTCMonth() - back, 1);
  if (period === "month") return { from: dayOf(month(0)), to: dayOf(now) };
  if (period === "before") return { from: dayOf(month(1)), to: dayOf(month(0) - DAY_MS) };
  return { from: dayOf(now - (Number(period) - 1) * DAY_MS), to: dayOf(now) };
}

/** Every day, those on which nothing was used too: a hole in a row of days would look like no time. Newest first. */
export function everyDay(rows: readonly Used[], days: Days): Used[] {
  const known = new Map(rows.map((row) => [row.day, row]));
  const first = rows.reduce((low, row) => (row.day !== undefined && row.day < low ? row.day : low), days.to);
  const out: Used[] = [];
  for (let time = Date.parse(days.to); dayOf(time) >= first; time -= DAY_MS) out.push(known.get(dayOf(time)) ?? { ...NOTHING, day: dayOf(time) });
  return out;
}

export const NOTHING: Used = {
  calls: 0, refused: 0, inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0, costUsd: 0,
  guessedTokens: 0, guessedCostUsd: 0, agentTokens: 0, agentCostUsd: 0,
};

export const tokensOf = (row: Used): number => row.inputTokens + row.outputTokens + row.cacheReadTokens + row.cacheWriteTokens;

/** What a row is about, and below it what else it is called. */
export function nameOf(row: Used, by: Field): { name: string; also: string } {
  if (by === "day") return { name: row.day ?? "", also: "" };
  if (by === "person") return row.personName && row.personName !== row.person ? { name: row.personName, also: row.person ?? "" } : { name: row.person || "nobody", also: "" };
  if (by === "key") return row.key ? { name: row.keyName || row.key, also: row.keyName ? row.key : "" } : { name: "no key", also: "signed in on the page" };
  if (by === "session") return row.sessionTitle ? { name: row.sessionTitle, also: "" } : { name: "a session that is gone or not shown to you", also: row.session ?? "" };
  return { name: row.model || "not named", also: "" };
}

const dollars = (n: number): string => `$${n.toFixed(n !== 0 && n < 0.01 ? 4 : 2)}`;
export const money = dollars;
export const count = (n: number): string => n.toLocaleString("en");

/** What of the whole is not measured. */
export function unmeasured(total: Used): string[] {
  const out: string[] = [];
  if (total.guessedCostUsd > 0) out.push(`${dollars(total.guessedCostUsd)} is a careful guess: models that are in no price list count as the dearest.`);
  if (total.guessedTokens > 0) out.push(`${count(total.guessedTokens)} tokens are of answers that broke off, counted by the text that had come.`);
  if (total.agentTokens > 0 || total.agentCostUsd > 0) out.push(`${count(total.agentTokens)} tokens (${dollars(total.agentCostUsd)}) are the agent’s own word; nothing was metered there.`);
  return out;
}

/** How long a row's bar is, from 0 to 1: by cost, or by tokens where nothing costs anything. */
export function share(row: Used, rows: readonly Used[]): number {
  const measure = rows.some((one) => one.costUsd > 0) ? (one: Used) => one.costUsd : tokensOf;
  const most = Math.max(...rows.map(measure), 0);
  return most > 0 ? measure(row) / most : 0;
}
