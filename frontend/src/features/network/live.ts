/** A session's network as it is now: the stream says all at first, then what has changed. */
import { useEffect, useState } from "react";
import type { Contact, Network } from "../../net/api.ts";
import { api } from "../../wiring.ts";

export interface Live {
  network?: Network;
  state: "open" | "waiting" | "refused";
}

const keyOf = ({ host, port, reason }: Contact): string => JSON.stringify([host, port, reason]);

/** Newest first. */
export function merge(before: Network | undefined, change: Network): Network {
  const rows = new Map((before?.contacts ?? []).map((one) => [keyOf(one), one]));
  for (const one of change.contacts) rows.set(keyOf(one), one);
  const contacts = [...rows.values()].sort((a, b) => b.last.localeCompare(a.last) || a.host.localeCompare(b.host) || a.port - b.port);
  return { ...change, contacts };
}

export function useNetwork(id: string): Live {
  const [live, setLive] = useState<Live>({ state: "waiting" });
  useEffect(() => {
    const stream = new EventSource(api.networkStreamUrl(id));
    stream.onmessage = (message) => {
      const change = JSON.parse(message.data as string) as Network;
      setLive(({ network }) => ({ network: merge(network, change), state: "open" }));
    };
    // The browser comes back by itself, unless the server refused.
    stream.onerror = () => setLive((before) => ({ ...before, state: stream.readyState === EventSource.CLOSED ? "refused" : "waiting" }));
    return () => stream.close();
  }, [id]);
  return live;
}
