/** Small checks for JSON that came from outside: each says what it accepts, and a failure names the field. */

export class BadShape extends Error {}

export type Check<T> = (value: unknown, at: string) => T;
type Optional<T> = Check<T | undefined> & { optional: true };
type Fields = Record<string, Check<unknown>>;

type Required<F extends Fields> = { [K in keyof F as F[K] extends { optional: true } ? never : K]: ReturnType<F[K]> };
type Absent<F extends Fields> = {
  [K in keyof F as F[K] extends { optional: true } ? K : never]?: Exclude<ReturnType<F[K]>, undefined>;
};
export type Shape<F extends Fields> = Required<F> & Absent<F>;

const fail = (at: string, wanted: string): never => {
  throw new BadShape(`${at}: expected ${wanted}`);
};

export const text: Check<string> = (value, at) => (typeof value === "string" ? value : fail(at, "a string"));
export const flag: Check<boolean> = (value, at) => (typeof value === "boolean" ? value : fail(at, "a boolean"));
export const amount: Check<number> = (value, at) =>
  typeof value === "number" && Number.isFinite(value) ? value : fail(at, "a number");
export const count: Check<number> = (value, at) =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : fail(at, "a whole number from 0");
/** Free JSON: carried and shown, never trusted. Its absence is a fault where it is required. */
export const json: Check<unknown> = (value, at) => (value === undefined ? fail(at, "a value") : value);

export function oneOf<const T extends string>(...words: readonly T[]): Check<T> {
  return (value, at) => ((words as readonly unknown[]).includes(value) ? (value as T) : fail(at, words.join(" | ")));
}

export function list<T>(item: Check<T>): Check<T[]> {
  return (value, at) =>
    Array.isArray(value) ? value.map((one: unknown, i) => item(one, `${at}[${i}]`)) : fail(at, "a list");
}

export function table<T>(item: Check<T>): Check<Record<string, T>> {
  return (value, at) => {
    const entries = Object.entries(record(value, at)).map(([key, one]) => [key, item(one, `${at}.${key}`)] as const);
    return Object.fromEntries(entries);
  };
}

export function maybe<T>(check: Check<T>): Optional<T> {
  const optional = (value: unknown, at: string): T | undefined =>
    value === undefined || value === null ? undefined : check(value, at);
  return Object.assign(optional, { optional: true as const });
}

/** An object with these members; further ones are left out, so that a newer server does not break the page. */
export function shape<F extends Fields>(fields: F): Check<Shape<F>> {
  const members = Object.entries(fields);
  return (value, at) => {
    const source = record(value, at);
    const out: Record<string, unknown> = {};
    for (const [key, check] of members) {
      const got = check(source[key], `${at}.${key}`);
      if (got !== undefined) out[key] = got;
    }
    return out as Shape<F>;
  };
}

export function record(value: unknown, at: string): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : fail(at, "an object");
}
