import { useState } from "react";
import { Group, Text } from "@mantine/core";
import { useLiveState } from "../model/hooks.ts";
import type { Connection as State } from "../net/socket.ts";

const WORDS: Record<State, string> = {
  connecting: "Connecting…",
  open: "Connected",
  waiting: "Reconnecting…",
  offline: "Offline",
  refused: "Disconnected",
};

/** Said over everything else while what is shown may be behind; a first connection is no news. */
export function ConnectionBanner() {
  const state = useLiveState((all) => all.connection);
  const detail = useLiveState((all) => all.detail);
  const [lost, setLost] = useState(false);
  const now = state === "waiting" || state === "refused" || (lost && state === "connecting");
  if (now !== lost) setLost(now);
  return (
    <div role="status" data-testid="connection-lost" data-state={state}>
      {now ? (
        <div className="banner" data-tone="warn">
          {state === "refused" ? (
            <>
              <strong>Disconnected.</strong> {detail} Reload the page to try again.
            </>
          ) : (
            <>
              <strong>Reconnecting…</strong> What you see may be behind. The sessions go on.
            </>
          )}
        </div>
      ) : null}
    </div>
  );
}

export function Connection({ compact = false }: { compact?: boolean }) {
  const state = useLiveState((all) => all.connection);
  const detail = useLiveState((all) => all.detail);
  return (
    <Group gap={6} wrap="nowrap" role="status" data-testid={compact ? "connection-compact" : "connection"} data-state={state} title={state === "refused" ? detail : undefined}>
      <span className="dot" data-state={state} aria-hidden="true" />
      <Text span fz="xs" c="dimmed" className={compact && state === "open" ? "sr-only" : undefined}>
        {WORDS[state]}
      </Text>
    </Group>
  );
}
