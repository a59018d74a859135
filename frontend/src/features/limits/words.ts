/** How limits are said and read. Names and codes are those of `protocol/http.md`; sizes are powers of 1024 everywhere. */
import type { Limit } from "../../net/api.ts";

interface Words {
  label: string;
  /** What counts, where the name alone does not say it. */
  hint?: string;
}
const NAMES: Readonly<Record<string, Words>> = {
  memory: { label: "Memory", hint: "with /tmp, /dev/shm" },
  processes: { label: "Processes", hint: "with threads" },
  cpu: { label: "Processors" },
  disk: { label: "Disk", hint: "workspace and home" },
  files: { label: "Files on its disk", hint: "with directories" },
  tmp: { label: "Temporary files", hint: "/tmp" },
  shm: { label: "Shared memory", hint: "/dev/shm" },
  run: { label: "Sockets and pid files", hint: "/run" },
};
export const nameWords = (name: string): Words => NAMES[name] ?? { label: name };

const ENFORCED: Readonly<Record<string, string>> = {
  cgroup: "Enforced by the kernel",
  image: "Enforced by the kernel, on a disk of its own",
  tmpfs: "Enforced by the kernel",
  rlimit: "Enforced by the kernel",
  watchdog: "Watched: what goes over it is ended",
  none: "Not enforced",
};
export const enforcedWords = (how: string): string => ENFORCED[how] ?? how;

export function hitsWords({ name, hits }: Limit): string {
  if (hits < 1) return "";
  return `${name === "cpu" ? "Held back" : "Reached"} ${hits === 1 ? "once" : `${hits.toLocaleString("en")} times`}`;
}

const UNITS: [string, number][] = [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]];
const UNIT_OF = /^(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]?)(?:i?b)?$/i;

/** One digit after the point, where it says something. */
const short = (n: number): string => n.toLocaleString("en", { maximumFractionDigits: n < 100 ? 1 : 0 });

export function size(n: number): string {
  const [unit, one] = UNITS.find(([, least]) => n >= least) ?? ["B", 1];
  return `${short(n / one)} ${unit}`;
}

const said = (n: number, unit: Limit["unit"]): string => (unit === "bytes" ? size(n) : n.toLocaleString("en", { maximumFractionDigits: 2 }));

/** "1.2 of 4 GiB", "310 MiB of 4 GiB", "12 of 512", "up to 2", "not limited". */
export function amount({ used, max, unit }: Limit): string {
  if (max === null) return used === null ? "not limited" : `${said(used, unit)}, not limited`;
  const most = said(max, unit);
  if (used === null) return `up to ${most}`;
  const now = said(used, unit);
  const [figure, same] = now.split(" ");
  return same !== undefined && most.endsWith(` ${same}`) ? `${figure} of ${most}` : `${now} of ${most}`;
}

/** From 0 to 100, or nothing to draw. */
export const share = ({ used, max }: Limit): number | undefined =>
  used === null || max === null || max <= 0 ? undefined : Math.round(Math.min(100, Math.max(0, (100 * used) / max)));

/** What somebody may ask for in a form; the others are for programs. */
export const ASKED = ["memory", "disk", "cpu", "processes"] as const;
export type Asked = (typeof ASKED)[number];
export type Typed = Record<Asked, string>;
export const NOTHING: Typed = { memory: "", disk: "", cpu: "", processes: "" };
export const unitOf = (name: Asked): Limit["unit"] => (name === "cpu" ? "cores" : name === "processes" ? "count" : "bytes");

/** "512M" and "1.5 GB" in bytes, for the others a number; nothing if it is none. */
export function parse(name: Asked, text: string): number | undefined {
  if (unitOf(name) !== "bytes") return /^\d{1,9}(\.\d{1,6})?$/.test(text.trim()) ? Number(text) : undefined;
  const found = UNIT_OF.exec(text.trim());
  if (!found) return undefined;
  const power = "kmgt".indexOf((found[2] ?? "").toLowerCase());
  return Math.floor(Number(found[1]) * (found[2] ? 1024 ** (power + 1) : 1));
}

/** What is wrong with what was typed. The server knows the bounds and says them. */
export function faultsOf(typed: Typed): Partial<Typed> {
  const faults: Partial<Typed> = {};
  for (const name of ASKED) {
    if (typed[name].trim() === "" || parse(name, typed[name]) !== undefined) continue;
    faults[name] = unitOf(name) === "bytes" ? "A size such as 512M or 2G." : name === "cpu" ? "A number such as 1.5." : "A whole number.";
  }
  return faults;
}

/** For the request; nothing if all is as configured. */
export function wished(typed: Typed): Partial<Record<Asked, number>> | undefined {
  const limits: Partial<Record<Asked, number>> = {};
  for (const name of ASKED) {
    const value = parse(name, typed[name]);
    if (value !== undefined) limits[name] = value;
  }
  return Object.keys(limits).length > 0 ? limits : undefined;
}

/** A refusal that names one of the fields: `limits.memory: from 64 MiB …`. */
export function refusedField(message: string): { name: Asked; fault: string } | undefined {
  const found = /^limits\.(\w+): (.+)$/s.exec(message);
  const name = ASKED.find((one) => one === found?.[1]);
  const fault = found?.[2];
  return name && fault ? { name, fault: `${fault[0]?.toUpperCase() ?? ""}${fault.slice(1)}` } : undefined;
}

const REACHED: Readonly<Record<string, string>> = {
  limit_memory: "Memory limit reached",
  limit_processes: "Process limit reached",
  limit_disk: "Disk limit reached",
};
/** What an `error` event tells of a limit: only the server may use these codes. */
export const reachedWords = (code: string): string | undefined =>
  REACHED[code] ?? (code.startsWith("limit_") ? "Limit reached" : undefined);
