/** How the audit's records are said. An action without words of its own is shown as it is. */
import type { AuditRecord } from "../../net/api.ts";

const ACTIONS: Readonly<Record<string, string>> = {
  signin: "Signed in",
  signout: "Signed out",
  "signin.end": "Ended a sign-in",
  "ticket.create": "Made a sign-in link",
  "key.create": "Made a key",
  "key.revoke": "Revoked a key",
  "session.create": "Made a session",
  "session.change": "Changed a session",
  "session.share": "Changed for whom a session is",
  "session.stop": "Stopped a session",
  "session.delete": "Deleted a session",
  "link.create": "Made a share link",
  "link.revoke": "Revoked a share link",
  "member.add": "Added a member",
  "member.change": "Changed a member",
  "member.remove": "Removed a member",
  "organisation.create": "Made an organisation",
  "network.change": "Changed a session’s network",
  "approval.approve": "Approved a tool call",
  "approval.deny": "Denied a tool call",
  "question.answer": "Answered a question",
  "rule.remember": "Had an answer remembered",
  "rule.remove": "Removed a remembered answer",
  "files.download": "Downloaded files",
  "credential.refuse": "Showed a credential that is not known",
  "access.refuse": "Tried what is not allowed",
  "audit.trim": "Removed old records",
};

export const GROUPS: readonly { value: string; label: string }[] = [
  { value: "", label: "Everything" },
  { value: "sign", label: "Signing in and out" },
  { value: "ticket.", label: "Sign-in links" },
  { value: "key", label: "Keys" },
  { value: "member.", label: "Members" },
  { value: "organisation.", label: "Organisations" },
  { value: "link.", label: "Share links" },
  { value: "session.", label: "Sessions" },
  { value: "approval.", label: "Approvals" },
  { value: "question.", label: "Questions" },
  { value: "rule.", label: "Remembered answers" },
  { value: "network.", label: "Network" },
  { value: "files.", label: "Files" },
  { value: "credential.", label: "Unknown credentials" },
  { value: "access.", label: "Not allowed" },
];

export function whatOf({ action, outcome }: AuditRecord): string {
  if (action === "signin" && outcome !== "ok") return "Failed to sign in";
  return ACTIONS[action] ?? action;
}

export function whoOf({ actor }: AuditRecord): string {
  if (actor.kind === "server") return "the server";
  if (actor.kind === "nobody") return "somebody unknown";
  const name = actor.name || actor.id;
  return actor.kind === "person" ? name : `${name} (${actor.kind === "key" ? "API key" : actor.kind})`;
}

const DAY = new Intl.DateTimeFormat("en", { day: "numeric", month: "short" });
const TIME = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hour12: false });

/** In the reader's own time zone; the exact time is the record's. */
export function momentOf(at: string): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? at : `${DAY.format(date)} ${TIME.format(date)}`;
}

/** `session:ID` is where one can go; the rest is only shown. */
export const sessionOf = (object: string): string | undefined => /^session:([\w-]{1,128})$/.exec(object)?.[1];

const shorter = (text: string): string => (/^[0-9a-f]{64}$/.test(text) ? `${text.slice(0, 12)}…` : text);

/** What else a record says, a pair each; texts as they are. */
export function detailsOf(record: AuditRecord): [name: string, text: string][] {
  return Object.entries(record.details)
    .map(([name, value]): [string, string] => [name, Array.isArray(value) ? value.join(", ") : shorter(String(value))])
    .filter(([, text]) => text !== "");
}
