/** Where the reader is, in the fragment: the server serves one page and needs no rewriting rules. */
import { useSyncExternalStore } from "react";

export type Route = { page: "new" } | { page: "settings" } | { page: "members" } | { page: "audit" } | { page: "usage" } | { page: "session"; id: string };

export function parseRoute(hash: string): Route {
  const session = /^#\/s\/([\w-]{1,128})$/.exec(hash);
  if (session?.[1]) return { page: "session", id: session[1] };
  if (hash === "#/settings") return { page: "settings" };
  if (hash === "#/members") return { page: "members" };
  if (hash === "#/usage") return { page: "usage" };
  return hash === "#/audit" ? { page: "audit" } : { page: "new" };
}

export const hrefOf = (route: Route): string => (route.page === "session" ? `#/s/${route.id}` : `#/${route.page}`);

export const go = (route: Route): void => {
  window.location.hash = hrefOf(route);
};

const listen = (wake: () => void): (() => void) => {
  window.addEventListener("hashchange", wake);
  return () => window.removeEventListener("hashchange", wake);
};

export function useRoute(): Route {
  return parseRoute(useSyncExternalStore(listen, () => window.location.hash));
}
