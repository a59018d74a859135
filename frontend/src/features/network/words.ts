/** How policies and reasons are said. The codes are those of `protocol/http.md`. */
import type { Policy } from "../../net/api.ts";

export const POLICIES: Record<Policy, { label: string; hint: string }> = {
  off: { label: "Off", hint: "The session reaches the model and nothing else." },
  allow: { label: "Listed", hint: "The session reaches the domains below; another one is asked about, or refused." },
  full: { label: "Full", hint: "The session reaches every public address." },
};

const REASONS: Readonly<Record<string, string>> = {
  listed: "on the list",
  full: "full network",
  approved: "approved",
  not_found: "no such name",
  no_answer: "no answer",
  off: "no network",
  not_listed: "not on the list",
  denied: "denied",
  not_public: "not a public address",
  limit: "too many connections at one time",
  malformed: "not a proper request",
};
export const reasonWords = (reason: string): string => REASONS[reason] ?? reason;

/** One domain a line; commas will do. */
export const domainsOf = (text: string): string[] => [...new Set(text.split(/[\s,]+/).filter((one) => one !== ""))];
