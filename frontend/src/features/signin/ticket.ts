/** What a sign-in link or a share link carries in its fragment, which no server and no Referer ever sees. */
export interface Shown {
  kind: "ticket" | "link";
  secret: string;
}

const FORM = /^#(ticket|link)=(.+)$/;

export const isShown = (hash: string): boolean => FORM.test(hash);

/** Takes it out of the address bar, too. */
export function takeShown(): Shown | undefined {
  const found = FORM.exec(window.location.hash);
  if (!found?.[1] || !found[2]) return undefined;
  window.history.replaceState(null, "", window.location.pathname + window.location.search);
  const kind = found[1] === "link" ? "link" : "ticket";
  try {
    return { kind, secret: decodeURIComponent(found[2]) };
  } catch {
    return { kind, secret: found[2] };
  }
}
