/** The calls of `protocol/http.md` about people and the keys of programs. */
import type { Http } from "./http.ts";

export type Role = "viewer" | "operator" | "approver" | "admin";
export interface Member {
  account: string;
  name: string;
  organisation: string;
  role: Role;
  createdAt: string;
  disabled: boolean;
}
export interface Organisation {
  id: string;
  name: string;
}
export interface Ticket {
  url: string;
  expiresAt: string;
}
/** How often somebody may; 0 requests a second or jobs a day: no limit. */
export interface Rates {
  ratePerS: number;
  rateBurst: number;
  quotaPerDay: number;
}
/** Rates that are left out are as configured. */
export interface NewKey extends Partial<Rates> {
  name: string;
  scopes: string[];
}
export interface NewPair extends NewKey {
  expiresInS?: number;
  sessionToken?: true;
}
/** Shown once. */
export interface PairSecret {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
}

const id = encodeURIComponent;
const memberPath = (organisation: string, account: string): string => `api/members/${id(account)}?organisation=${id(organisation)}`;

export const makePeople = (http: Http) => ({
  organisations: (signal?: AbortSignal) => http.get<{ items: Organisation[] }>("api/organisations", signal),
  members: (organisation: string, signal?: AbortSignal) =>
    http.get<{ items: Member[] }>(`api/members?organisation=${id(organisation)}`, signal),
  putMember: (organisation: string, account: string, body: { role?: Role; name?: string; disabled?: boolean }) =>
    http.send<Member>("PUT", memberPath(organisation, account), body),
  removeMember: (organisation: string, account: string) =>
    http.send<undefined>("DELETE", memberPath(organisation, account)),
  makeTicket: (organisation: string, account: string) =>
    http.send<Ticket>("POST", `api/tickets?organisation=${id(organisation)}&account=${id(account)}`),
  createPair: (body: NewPair) => http.send<PairSecret>("POST", "api/keys", { ...body, kind: "sigv4" }),
});
