/** What was used and what it cost. */
import type { Http } from "./http.ts";

/** A row of usage; the fields that were asked for, and sums. Names in it may be anybody's words. */
export interface Used {
  day?: string;
  person?: string;
  personName?: string;
  key?: string;
  keyName?: string;
  session?: string;
  sessionTitle?: string;
  model?: string;
  calls: number;
  refused: number;
  inputTokens: number;
  outputTokens: number;
  cacheReadTokens: number;
  cacheWriteTokens: number;
  costUsd: number;
  guessedTokens: number;
  guessedCostUsd: number;
  agentTokens: number;
  agentCostUsd: number;
}
export interface UsageTable {
  from: string;
  to: string;
  by: string[];
  organisation: string;
  whose: "own" | "organisation";
  items: Used[];
  total: Used;
  next: null;
}
export interface UsageAsked {
  from: string;
  to: string;
  by: string;
}

const query = ({ from, to, by }: UsageAsked): string => new URLSearchParams({ from, to, by }).toString();

export const usageOf = (http: Http) => ({
  usage: (asked: UsageAsked, signal?: AbortSignal) => http.get<UsageTable>(`api/usage?${query(asked)}`, signal),
  /** A file of the same. */
  usageCsvUrl: (asked: UsageAsked): string => http.url(`api/usage.csv?${query(asked)}`),
});
