import { ActionIcon, Badge, Box, Button, Group, NavLink, ScrollArea, Text, TextInput, Tooltip } from "@mantine/core";
import { Plus, Search, Settings2 } from "lucide-react";
import { useState } from "react";
import type { ReactNode } from "react";
import { go, hrefOf } from "../../model/route.ts";
import type { Me, Session } from "../../net/api.ts";
import { sayError } from "../../net/http.ts";
import { plain } from "../../protocol/reveal.ts";
import { Connection } from "../../ui/Connection.tsx";
import { Mark } from "../../ui/Mark.tsx";
import { ago, cost } from "../../ui/words.ts";
import { IsolationMark } from "./Isolation.tsx";
import { matches } from "./search.ts";
import { SessionMenu } from "./SessionMenu.tsx";

/** A list this short needs no search. */
const SEARCH_FROM = 5;

interface Props {
  sessions: Session[] | undefined;
  error: unknown;
  /** Older ones that are not loaded yet. */
  more: { busy: boolean; load: () => void } | undefined;
  current: string | undefined;
  me: Me;
  menu: ReactNode;
}

export function SessionList({ sessions, error, more, current, me, menu }: Props) {
  const [wanted, want] = useState("");
  const found = sessions?.filter((one) => matches(one, wanted));
  return (
    <>
      <Group p="sm" gap={8} justify="space-between" wrap="nowrap">
        <Group gap={8} wrap="nowrap">
          {menu}
          <Mark />
          <Text fw={600}>Pilothouse</Text>
        </Group>
        <Tooltip label="Settings">
          <ActionIcon component="a" href={hrefOf({ page: "settings" })} variant="subtle" color="gray" aria-label="Settings" data-testid="settings">
            <Settings2 size={18} />
          </ActionIcon>
        </Tooltip>
      </Group>
      {me.principal.scopes.includes("run") ? (
        <Box px="sm" pb="sm">
          <Button component="a" href={hrefOf({ page: "new" })} fullWidth variant="light" leftSection={<Plus size={16} />} data-testid="new-session">
            New session
          </Button>
        </Box>
      ) : null}
      {sessions && sessions.length > SEARCH_FROM ? (
        <Box px="sm" pb="xs">
          <TextInput size="xs" type="search" aria-label="Search the sessions" placeholder="Search…" leftSection={<Search size={14} />} value={wanted} onChange={(event) => want(event.currentTarget.value)} data-testid="session-search" />
        </Box>
      ) : null}
      <ScrollArea flex={1} type="hover" scrollbarSize={8}>
        <ul className="sessions">
          {found?.map((one) => (
            <Row key={one.id} one={one} active={one.id === current} />
          ))}
        </ul>
        {sessions && sessions.length > 0 && found?.length === 0 ? (
          <Text c="dimmed" fz="sm" px="md" py="sm" role="status">
            No session matches.
          </Text>
        ) : null}
        {more ? (
          <Button variant="subtle" size="xs" mx="sm" mb="sm" loading={more.busy} onClick={more.load} data-testid="more-sessions">
            Load older sessions
          </Button>
        ) : null}
        {sessions?.length === 0 ? (
          <Text c="dimmed" fz="sm" px="md" py="sm">
            No sessions yet.
          </Text>
        ) : null}
        {error && !sessions ? (
          <Text c="red" fz="sm" px="md" role="alert">
            {sayError(error)}
          </Text>
        ) : null}
      </ScrollArea>
      <Group p="sm" gap={8} justify="space-between" wrap="nowrap" className="navfoot">
        <Connection />
        <Text fz="xs" c="dimmed" truncate>
          {me.server.version}
        </Text>
      </Group>
    </>
  );
}

function Row({ one, active }: { one: Session; active: boolean }) {
  const needs = one.pendingApprovals + one.pendingQuestions;
  const title = plain(one.title) || "Untitled session";
  return (
    <li className="sessionrow" data-testid="session-row" data-session={one.id} data-state={one.state}>
      <NavLink
        href={hrefOf({ page: "session", id: one.id })}
        active={active}
        aria-current={active ? "page" : undefined}
        label={title}
        description={<Line one={one} />}
        rightSection={
          needs > 0 ? (
            <Badge color="orange" variant="filled" size="sm" data-testid="needs-you" title="Needs you">
              {needs}
              <span className="sr-only"> waiting for your answer</span>
            </Badge>
          ) : null
        }
        noWrap
      />
      <SessionMenu one={one} className="rowmenu" onGone={() => active && go({ page: "new" })} />
    </li>
  );
}

function Line({ one }: { one: Session }) {
  const state = one.running ? "working" : one.state;
  return (
    <Group gap={6} wrap="nowrap" component="span" fz="xs">
      <span className="dot" data-state={state} aria-hidden="true" />
      <span>{one.running ? "Working" : one.state === "lost" ? "Lost" : ago(one.lastActiveAt)}</span>
      <span aria-hidden="true">·</span>
      <span className="ellipsis">{one.agent}</span>
      <IsolationMark isolation={one.isolation} />
      {one.totalCost > 0 ? (
        <>
          <span aria-hidden="true">·</span>
          <span>{cost(one.totalCost)}</span>
        </>
      ) : null}
    </Group>
  );
}
