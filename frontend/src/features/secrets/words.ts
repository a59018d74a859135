/** Secrets in words. */
import type { GivenTo, Place, Project, Secret } from "../../net/secrets.ts";
import { plain } from "../../protocol/reveal.ts";
import { refusal } from "../../ui/refusal.ts";
import { ago, who } from "../../ui/words.ts";

export const GIVEN: { value: GivenTo; label: string }[] = [
  { value: "shells", label: "Shells" },
  { value: "agents", label: "Agents" },
  { value: "both", label: "Shells and agents" },
];

export const FIELDS = ["name", "value", "for", "file", "project"] as const;
export type Field = (typeof FIELDS)[number];

const NAME_MAX = 100;
const NAME = /^[A-Z][A-Z0-9_]{0,99}$/;
/** In the server's words, and without asking it: the name is a part of the address, and one with a `/` in it leads elsewhere. */
export const nameFault = (name: string): string | undefined =>
  NAME.test(name) ? undefined : `'${name.slice(0, NAME_MAX)}' is no name: A-Z, 0-9 and _, a letter first, at most ${NAME_MAX}`;

/** What a refusal says, and at which field. What is wrong with a project is said of the source as well. */
export function refused(error: unknown): { field: Field; words: string } | undefined {
  const found = refusal(error, [...FIELDS, "source", "source.git", "git", "dir"]);
  const field = found?.fields[0];
  if (!found || field === undefined) return undefined;
  return { field: FIELDS.find((one) => one === field) ?? "project", words: found.words };
}

/** As the command line reads it. */
export const projectOf = (text: string): Project => (text.includes("://") ? { git: text.trim() } : { dir: text.trim() });
export const projectFault = (text: string): string | undefined =>
  text.includes("://") || text.trim().startsWith("/") ? undefined : "A git URL, or a directory on the server, from /";
const projectName = ({ project }: Secret): string => project?.git ?? project?.dir ?? "";

export const placeOf = (one: Secret, session: string | undefined): Place => {
  if (one.where === "session") return { where: "session", session: session ?? "" };
  return one.where === "project" ? { where: "project", project: projectOf(projectName(one)) } : { where: "account" };
};

/** `owner`: whose account it is of, where that is not the reader's. */
export function whereWords(one: Secret, owner?: string): string {
  if (one.where === "session") return "in this session alone";
  const name = plain(projectName(one));
  if (owner === undefined) return one.where === "project" ? `in your sessions of ${name}` : "in all your sessions";
  return one.where === "project" ? `in ${plain(owner)}’s sessions of ${name}` : `in all sessions of ${plain(owner)}`;
}

export const givenWords = (one: Secret): string => {
  const whom = GIVEN.find(({ value }) => value === one.for)?.label ?? one.for;
  return `${whom}, in ${one.file ? "a file" : "the environment"}`;
};

export const sinceWords = (one: Secret, now = Date.now()): string =>
  `Set ${ago(one.setAt, now)} by ${who(one.setBy)}; ${one.lastUsedAt ? `last used ${ago(one.lastUsedAt, now)}` : "never used"}`;

/** Names are unique where they count. */
export const same = (one: Secret, name: string, place: Place): boolean =>
  one.name === name && one.where === place.where && (place.where !== "project" || projectName(one) === Object.values(place.project)[0]);

const SEVERAL = /[\r\n]/;
/** Whether a text has more than one line. A line break at its end does not count: it came along when the text was copied. */
export const hasLines = (text: string): boolean => SEVERAL.test(text.replace(/\r?\n$/, ""));
export const linesIn = (text: string): number => text.replace(/\n$/, "").split("\n").length;

const VALUE_MAX = 16 * 1024;
/** Of a file, before it is read; in the server's words. */
export const tooLong = (size: number): string | undefined => (size > VALUE_MAX ? `${size} bytes, at most ${VALUE_MAX}` : undefined);
