/** The calls of `protocol/http.md` about secrets. A value goes to the server and never comes back. */
import type { Http } from "./http.ts";

export type Project = { git: string } | { dir: string };
export type GivenTo = "shells" | "agents" | "both";
/** Where a secret counts. */
export type Place = { where: "account" } | { where: "project"; project: Project } | { where: "session"; session: string };
export interface Secret {
  name: string;
  where: Place["where"];
  for: GivenTo;
  /** In a file instead of the environment. */
  file: boolean;
  /** It is long enough to be looked for in what is written. */
  masked: boolean;
  setAt: string;
  setBy: string;
  project?: { git?: string; dir?: string };
  lastUsedAt?: string;
}
export interface NewSecret {
  value: string;
  for: GivenTo;
  file: boolean;
}

const id = encodeURIComponent;
const pathOf = (place: Place, name: string): string =>
  place.where === "session" ? `api/sessions/${id(place.session)}/secrets/${id(name)}` : `api/secrets/${id(name)}`;

export const makeSecrets = (http: Http) => ({
  /** One's own, of the account and of each project; or those that reach a session. */
  secrets: (session: string | undefined, signal?: AbortSignal) =>
    http.get<{ items: Secret[] }>(session === undefined ? "api/secrets" : `api/sessions/${id(session)}/secrets`, signal),
  setSecret: (place: Place, name: string, body: NewSecret) =>
    http.send<Secret>("PUT", pathOf(place, name), place.where === "project" ? { ...body, project: place.project } : body),
  removeSecret: (place: Place, name: string) => {
    const query = place.where === "project" ? `?${new URLSearchParams(place.project).toString()}` : "";
    return http.send<undefined>("DELETE", pathOf(place, name) + query);
  },
});
