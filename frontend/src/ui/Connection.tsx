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
