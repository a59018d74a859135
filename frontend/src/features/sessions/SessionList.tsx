import { ActionIcon, Badge, Box, Button, Group, Menu, NavLink, ScrollArea, Text, Tooltip } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { Ellipsis, Pencil, Plus, Settings2, Square, Trash2 } from "lucide-react";
import { useState } from "react";
import type { ReactNode } from "react";
import { go, hrefOf } from "../../model/route.ts";
import type { Me, Session } from "../../net/api.ts";
import { sayError } from "../../net/http.ts";
import { plain } from "../../protocol/reveal.ts";
import { Connection } from "../../ui/Connection.tsx";
import { Mark } from "../../ui/Mark.tsx";
import { ago, cost } from "../../ui/words.ts";
import { api, client } from "../../wiring.ts";
import { DeleteSession, RenameSession } from "./dialogs.tsx";

interface Props {
  sessions: Session[] | undefined;
  error: unknown;
  current: string | undefined;
  me: Me;
  menu: ReactNode;
}

export function SessionList({ sessions, error, current, me, menu }: Props) {
  const [renaming, rename] = useState<Session>();
  const [deleting, remove] = useState<Session>();
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
      <Box px="sm" pb="sm">
        <Button component="a" href={hrefOf({ page: "new" })} fullWidth variant="light" leftSection={<Plus size={16} />} data-testid="new-session">
          New session
        </Button>
      </Box>
      <ScrollArea flex={1} type="hover" scrollbarSize={8}>
        <ul className="sessions">
          {sessions?.map((one) => (
            <Row key={one.id} one={one} active={one.id === current} onRename={() => rename(one)} onDelete={() => remove(one)} />
          ))}
        </ul>
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
      {renaming ? <RenameSession session={renaming} onClose={() => rename(undefined)} /> : null}
      {deleting ? (
        <DeleteSession session={deleting} onClose={() => remove(undefined)} onGone={() => deleting.id === current && go({ page: "new" })} />
      ) : null}
    </>
  );
}

function Row({ one, active, onRename, onDelete }: { one: Session; active: boolean; onRename: () => void; onDelete: () => void }) {
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
      <RowMenu one={one} title={title} onRename={onRename} onDelete={onDelete} />
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
      {one.totalCost > 0 ? (
        <>
          <span aria-hidden="true">·</span>
          <span>{cost(one.totalCost)}</span>
        </>
      ) : null}
    </Group>
  );
}

function RowMenu({ one, title, onRename, onDelete }: { one: Session; title: string; onRename: () => void; onDelete: () => void }) {
  const queries = useQueryClient();
  const stop = (): void => {
    api.stopSession(one.id).then(
      () => queries.invalidateQueries({ queryKey: ["sessions"] }),
      (error: unknown) => client.say(sayError(error)),
    );
  };
  return (
    <Menu position="bottom-end" withinPortal shadow="md">
      <Menu.Target>
        <ActionIcon className="rowmenu" variant="subtle" color="gray" size="sm" aria-label={`More for ${title}`}>
          <Ellipsis size={16} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Item leftSection={<Pencil size={14} />} onClick={onRename}>
          Rename…
        </Menu.Item>
        <Menu.Item leftSection={<Square size={14} />} onClick={stop} disabled={one.state === "stopped" || one.state === "new"}>
          Stop its processes
        </Menu.Item>
        <Menu.Divider />
        <Menu.Item color="red" leftSection={<Trash2 size={14} />} onClick={onDelete}>
          Delete…
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
