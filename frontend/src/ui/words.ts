/** How figures, times, names and reasons are said. */
import { plain } from "../protocol/reveal.ts";

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["week", 604_800],
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "narrow" });

export function ago(time: string, now = Date.now()): string {
  const seconds = (Date.parse(time) - now) / 1000;
  if (Number.isNaN(seconds)) return "";
  for (const [unit, size] of UNITS)
    if (Math.abs(seconds) >= size) return relative.format(Math.round(seconds / size), unit);
  return "now";
}

export const cost = (dollars: number): string =>
  dollars === 0 ? "$0" : dollars < 0.01 ? "< $0.01" : `$${dollars.toFixed(dollars < 10 ? 2 : 1)}`;

export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${Math.round(seconds % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function tokens(n: number): string {
  if (n < 1000) return String(n);
  return n < 1_000_000 ? `${(n / 1000).toFixed(n < 10_000 ? 1 : 0)}k` : `${(n / 1_000_000).toFixed(1)}M`;
}

export function bytes(n: number): string {
  if (n < 1024) return `${n} B`;
  return n < 1_048_576 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / 1_048_576).toFixed(1)} MiB`;
}

export const clock = (time: string | undefined): string => {
  const date = new Date(time ?? "");
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
};

export const plural = (n: number, one: string, many = `${one}s`): string => `${n} ${n === 1 ? one : many}`;

/** A principal by its label: a key says that it is one. */
export const who = (by: string): string => {
  const name = plain(by);
  if (name.startsWith("link:")) return `${name.slice(5)} (share link)`;
  return name.startsWith("key:") ? `${name.slice(4)} (API key)` : name;
};

const REASONS: Record<string, string> = {
  session_lost: "The session was lost.",
  agent_failed: "The agent could not be started.",
  budget_exceeded: "The budget is used up.",
  timeout: "The time for this job is over.",
  model_error_400: "The model refused the request.",
  model_error_401: "The model's credential was refused.",
  model_error_403: "The model's credential may not do this.",
  model_error_429: "The model has too many requests.",
  model_error_529: "The model is overloaded.",
};

/** Why a job ended as it did: a code in words, what was said, and the code for a search. */
export function sayReason(reason: string | undefined, result: string): string {
  const said = result.trim() === reason ? "" : result.trim();
  if (!reason || !/^[a-z0-9_]+$/.test(reason)) return [reason ?? "", said].filter(Boolean).join("\n");
  return [REASONS[reason] ?? "", said, `(${reason})`].filter(Boolean).join("\n");
}

export interface ModeWords {
  label: string;
  hint: string;
}
const MODES: Record<string, ModeWords> = {
  acceptEdits: { label: "Accept edits", hint: "Edits in the workspace go ahead; the rest is asked." },
  manual: { label: "Ask first", hint: "Whatever changes or reads anything is asked." },
  default: { label: "Ask first", hint: "Whatever changes or reads anything is asked." },
  acceptAll: { label: "Accept all", hint: "Everything goes ahead, inside the sandbox." },
  bypassPermissions: { label: "Accept all", hint: "Everything goes ahead, inside the sandbox." },
  plan: { label: "Plan first", hint: "The agent reads and plans; nothing is changed before you accept the plan." },
  dontAsk: { label: "Never ask", hint: "What would be asked is denied." },
};
export const modeWords = (mode: string): ModeWords => MODES[mode] ?? { label: mode, hint: "" };
