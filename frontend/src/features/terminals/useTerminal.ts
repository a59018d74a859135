import { useCallback, useState } from "react";
import { opened, remember } from "./opened.ts";

/** Whether the terminal of a session is open; it is again after a reload. Without xterm: the conversation loads this. */
export function useTerminal(session: string) {
  const [open, setOpen] = useState(() => opened(session) !== undefined);
  const [pressed, press] = useState(false);
  const [full, fill] = useState(false);
  const set = useCallback(
    (to: boolean): void => {
      setOpen(to);
      press(to);
      fill(false);
      remember(to ? { session } : undefined);
    },
    [session],
  );
  const close = useCallback((): void => {
    set(false);
    // The panel is gone, and the focus with it.
    setTimeout(() => document.querySelector<HTMLElement>('[data-testid="terminal-open"]')?.focus(), 0);
  }, [set]);
  return { open, pressed, full, fill, toggle: () => (open ? close() : set(true)), close };
}
