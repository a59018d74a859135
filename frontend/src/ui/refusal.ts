/** A refusal that names fields, for those who show it beside them. */
import { HttpError, sayError } from "../net/http.ts";

export interface Refusal<Field extends string> {
  fields: readonly Field[];
  /** The server's words, as a sentence of their own. */
  words: string;
}

/** `name: it is empty`, `ratePerS, rateBurst: …`; nothing where one of the names is none of these. */
export function refusal<Field extends string>(error: unknown, fields: readonly Field[]): Refusal<Field> | undefined {
  if (!(error instanceof HttpError)) return undefined;
  const found = /^([\w.]+(?:, [\w.]+)*): (.+)$/s.exec(sayError(error));
  const named = found?.[1]?.split(", ").map((name) => fields.find((one) => one === name)) ?? [];
  const words = found?.[2] ?? "";
  const known = named.filter((name) => name !== undefined);
  return known.length > 0 && known.length === named.length ? { fields: known, words: sentence(words) } : undefined;
}

const sentence = (words: string): string => `${words[0]?.toUpperCase() ?? ""}${words.slice(1)}`;
