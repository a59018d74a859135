import { useCallback, useEffect, useState, useSyncExternalStore } from "react";
import { api } from "../../wiring.ts";
import type { Book } from "./book.ts";
import { Reader } from "./reader.ts";
import type { Reading } from "./reader.ts";

/** `connected`: the page's own connection stands; without it there is no server to read from. `again`: once more. */
export function useReader(id: string, connected: boolean, again: number): Reading & { now: () => Book } {
  const [reader] = useState(() => new Reader(api.log(id)));
  const reading = useSyncExternalStore(reader.subscribe, reader.snapshot);
  useEffect(() => {
    if (!connected) return;
    const look = (): void => (document.hidden ? reader.hold() : reader.go());
    look();
    document.addEventListener("visibilitychange", look);
    return () => {
      document.removeEventListener("visibilitychange", look);
      reader.hold();
    };
  }, [reader, connected, again]);
  const now = useCallback(() => reader.snapshot().book, [reader]);
  return { ...reading, ...(connected || reading.state === "refused" ? {} : { state: "waiting" }), now };
}
