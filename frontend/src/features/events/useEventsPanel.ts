/** Whether the events of a session are open beside its conversation; they are again after a reload of this tab. */
import { useCallback, useState } from "react";

const OPENERS = '[data-testid="events-open"], [data-testid="session-menu"]';
const KEY = "pilothouse.events.open";

function remembered(session: string): boolean {
  try {
    return sessionStorage.getItem(KEY) === session;
  } catch {
    return false; // a browser that keeps nothing opens none
  }
}

export function useEventsPanel(session: string) {
  const [open, setOpen] = useState(() => remembered(session));
  const set = useCallback(
    (to: boolean): void => {
      setOpen(to);
      try {
        if (to) sessionStorage.setItem(KEY, session);
        else sessionStorage.removeItem(KEY);
      } catch {
        // it is open until the page is left
      }
    },
    [session],
  );
  const close = useCallback((): void => {
    set(false);
    // The panel is gone, and the focus with it: to where it was opened.
    setTimeout(() => [...document.querySelectorAll<HTMLElement>(OPENERS)].find((one) => one.checkVisibility())?.focus(), 0);
  }, [set]);
  return { open, toggle: () => (open ? close() : set(true)), close };
}
