/** A tool's input as labelled text, whole: what is not a string is JSON. */
export interface Field {
  name: string;
  text: string;
}

export const asText = (value: unknown): string =>
  typeof value === "string" ? value : value === undefined ? "" : JSON.stringify(value, null, 2);

export function fieldsOf(input: unknown): Field[] {
  if (typeof input !== "object" || input === null || Array.isArray(input)) return [{ name: "input", text: asText(input) }];
  return Object.entries(input).map(([name, value]) => ({ name, text: asText(value) }));
}

/** What a connection is asked for by the proxy; nothing for any other tool, or for an input of another form. */
export function connectionOf(tool: string, input: unknown): { host: string; port: number } | undefined {
  if (tool !== "network" || typeof input !== "object" || input === null) return undefined;
  const { host, port, ...rest } = input as Record<string, unknown>;
  if (typeof host !== "string" || typeof port !== "number" || Object.keys(rest).length > 0) return undefined;
  return { host, port };
}

const TELLING = ["command", "file_path", "path", "pattern", "query", "url", "description", "prompt"];

/** The one line that tells most about a call. */
export function summaryOf(input: unknown): string {
  if (typeof input === "string") return input.slice(0, 200);
  if (typeof input !== "object" || input === null) return "";
  const fields = input as Record<string, unknown>;
  const telling = TELLING.map((name) => fields[name]).find((value) => typeof value === "string");
  return typeof telling === "string" ? telling.slice(0, 200) : "";
}
