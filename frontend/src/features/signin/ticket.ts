/** The sign-in link carries its one-use ticket in the fragment, which no server and no Referer ever sees. */
export function takeTicket(): string | undefined {
  const found = /^#ticket=(.+)$/.exec(window.location.hash);
  if (!found?.[1]) return undefined;
  window.history.replaceState(null, "", window.location.pathname + window.location.search);
  try {
    return decodeURIComponent(found[1]);
  } catch {
    return found[1];
  }
}
