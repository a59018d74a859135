/** Keys and key pairs in words. */
import type { Key } from "../../net/api.ts";
import type { PairSecret } from "../../net/people.ts";
import { plain } from "../../protocol/reveal.ts";
import { ago, plural } from "../../ui/words.ts";

export const SCOPES = ["read", "run", "approve", "admin", "metrics"];

/** As AWS's clients read them. None of the values has a character that a shell would see something in. */
export const environment = (made: PairSecret): string =>
  [
    `export AWS_ACCESS_KEY_ID=${made.accessKeyId}`,
    `export AWS_SECRET_ACCESS_KEY=${made.secretAccessKey}`,
    ...(made.sessionToken ? [`export AWS_SESSION_TOKEN=${made.sessionToken}`] : []),
  ].join("\n");

/** Whose it is, where not one's own; its last use; its end; how often it may, where not as configured. */
export const standing = (one: Key, account: string | undefined, now = Date.now()): string =>
  [
    one.account === undefined || one.account === account ? "" : `of ${plain(one.account)}`,
    one.lastUsedAt ? `used ${ago(one.lastUsedAt, now)}` : "never used",
    one.kind === "sigv4" ? ends(one.expiresAt, now) : "",
    rates(one),
  ]
    .filter((part) => part !== "")
    .join("; ");

function ends(at: string | undefined, now: number): string {
  if (at === undefined) return "until revoked";
  return Date.parse(at) <= now ? `ended ${ago(at, now)}` : `until ${new Date(at).toLocaleString()}`;
}

/** A figure of 0 is no limit. Only what was set for this key is said. */
function rates({ ratePerS, rateBurst, quotaPerDay }: Key): string {
  const said: string[] = [];
  if (ratePerS !== undefined) said.push(ratePerS === 0 ? "requests not limited" : `${plural(ratePerS, "request")} a second`);
  if (rateBurst !== undefined && ratePerS !== 0) said.push(`${rateBurst} at once`);
  if (quotaPerDay !== undefined) said.push(quotaPerDay === 0 ? "jobs not limited" : `${plural(quotaPerDay, "job")} a day`);
  return said.join(", ");
}
