/** What a role may, who has to stay, and who has been here, in words. */
import type { Key, SignIn } from "../../net/api.ts";
import type { Member, Role } from "../../net/people.ts";
import { ago, plural } from "../../ui/words.ts";

export const ROLES: readonly { value: Role; label: string; may: string }[] = [
  { value: "viewer", label: "Viewer", may: "Sees the sessions of the organisation that are not private: log, files, network." },
  { value: "operator", label: "Operator", may: "Also makes sessions, writes prompts and stops what runs. Has every right in sessions of their own, answering included." },
  { value: "approver", label: "Approver", may: "Also answers approvals and questions in the sessions of others." },
  { value: "admin", label: "Admin", may: "Also manages members, keys, share links and rules. Has every right in every session, private ones included." },
];

export const roleWord = (role: string): string => ROLES.find((one) => one.value === role)?.label ?? role;

/** As a sentence says it. */
export const aRole = (role: string): string => {
  const word = roleWord(role).toLowerCase();
  return `${/^[aeiou]/.test(word) ? "an" : "a"} ${word}`;
};

/** Why this one can be neither demoted, nor disabled, nor removed. The server refuses it too. */
export function stays(member: Member, members: readonly Member[]): string | undefined {
  if (member.organisation === "default" && member.account === "local") return "Whoever has this machine: stays an admin.";
  const admins = members.filter((one) => one.role === "admin" && !one.disabled);
  const last = admins.length === 1 && admins[0]?.account === member.account;
  return last ? "The last admin: make another first." : undefined;
}

/** What is known of when an account was here: its sign-ins that stand, and its keys. */
export function presence({ account, disabled }: Member, signIns: readonly SignIn[], keys: readonly Key[]): string {
  const here = signIns.filter((one) => one.account === account);
  const seen = latest(here.map((one) => one.lastSeenAt));
  const used = latest(keys.filter((one) => one.account === account).map((one) => one.lastUsedAt));
  const where = here.length > 1 ? ` with ${plural(here.length, "browser")}` : "";
  const now = disabled ? "shut out" : seen ? `signed in${where}` : "not signed in";
  const said = [seen ? `${now}, seen ${ago(seen)}` : now];
  if (used) said.push(`key used ${ago(used)}`);
  return said.join("; ");
}

const latest = (times: readonly (string | null | undefined)[]): string | undefined =>
  times.filter((one) => one !== null && one !== undefined).sort().at(-1);

/** What the address of a request cannot hold, or what is there already. */
export function refuseAccount(account: string, members: readonly Member[]): string | undefined {
  if (!/^[!-~]{1,200}$/.test(account)) return "1 to 200 printable ASCII characters without spaces.";
  if (account === "." || account === "..") return "Not dots alone.";
  return members.some((one) => one.account === account) ? "That is a member already." : undefined;
}
