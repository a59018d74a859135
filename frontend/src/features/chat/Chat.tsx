import { ActionIcon, Badge, Button, Group, Loader, Menu, Text, Tooltip } from "@mantine/core";
import { useDisclosure, useMediaQuery } from "@mantine/hooks";
import { FolderOpen, Globe, ScrollText, SquareTerminal, UserPlus, Users } from "lucide-react";
import { lazy, Suspense, useCallback } from "react";
import { useFollow, useOneSession } from "../../model/hooks.ts";
import type { Me } from "../../net/api.ts";
import { plain } from "../../protocol/reveal.ts";
import { plural } from "../../ui/words.ts";
import { Limits } from "../limits/Limits.tsx";
import { IsolationBadge } from "../sessions/Isolation.tsx";
import { ALL_RIGHTS, RightsHere } from "../sharing/rights.ts";
import { Watching } from "../sharing/Watching.tsx";
import { SessionMenu } from "../sessions/SessionMenu.tsx";
import { Composer } from "./Composer.tsx";
import { Log } from "./Log.tsx";
import { StatusLine } from "./StatusLine.tsx";
import { Usage } from "./Usage.tsx";
import { useOutOfSight } from "./sight.ts";
import { useAnnounced } from "./announce.ts";
import { useEventsPanel } from "../events/useEventsPanel.ts";
import { useTerminal } from "../terminals/useTerminal.ts";

const NetworkPanel = lazy(async () => ({ default: (await import("../network/NetworkPanel.tsx")).NetworkPanel }));
const Share = lazy(async () => ({ default: (await import("../sharing/Share.tsx")).Share }));
// Whoever opens no terminal does not load one.
const TerminalPanel = lazy(async () => ({ default: (await import("../terminals/TerminalPanel.tsx")).TerminalPanel }));
const EventsPanel = lazy(async () => ({ default: (await import("../events/EventsPanel.tsx")).EventsPanel }));
const Files = lazy(async () => ({ default: (await import("../files/Files.tsx")).Files }));

export function Chat({ id, me, onGone }: { id: string; me: Me; onGone: () => void }) {
  const live = useFollow(id);
  const visiting = me.principal.kind === "link";
  const { session, settled } = useOneSession(id, visiting);
  const rights = session?.rights ?? ALL_RIGHTS;
  const [filesOpen, files] = useDisclosure(false);
  const [networkOpen, network] = useDisclosure(false);
  const terminal = useTerminal(id);
  const events = useEventsPanel(id);
  // On a phone there is no room for one more button above the conversation: it is in the menu there.
  const narrow = useMediaQuery("(max-width: 47.99em)", false, { getInitialValueInEffect: false });
  const announced = useAnnounced(live);
  const asked = [...(live?.view.pendingApprovals ?? []), ...(live?.view.pendingQuestions ?? [])];
  const unseen = useOutOfSight(asked.join(" "));
  const jump = useCallback(() => {
    document.querySelector<HTMLElement>('[data-pending-card="true"]')?.focus();
  }, []);
  const [sharing, share] = useDisclosure(false);
  const missing = settled && !session && (live?.view.head ?? 0) === 0;

  if (missing)
    return (
      <div className="newsession">
        <Group>
          <Text>This session does not exist, or is not yours.</Text>
          {visiting ? null : (
            <Button variant="default" onClick={onGone}>
              New session
            </Button>
          )}
        </Group>
      </div>
    );

  const view = live?.view;
  const title = plain(view?.title ?? session?.title ?? "") || "Untitled session";
  const viewers = live?.viewers ?? 0;
  const waiting = asked.length > 0 && rights.includes("approve");
  return (
    <div className="sessionpage">
    <div className="sessionside" data-beside={events.open || undefined}>
    <section className="chat" aria-label="Conversation" data-terminal={terminal.open ? (terminal.full ? "full" : "below") : undefined}>
      <header className="chathead">
        <h1 className="ellipsis" data-testid="session-title" title={title}>
          {title}
        </h1>
        {view?.demo ? (
          <Badge color="grape" variant="light" size="sm" data-testid="demo-label">
            demo
          </Badge>
        ) : null}
        <IsolationBadge isolation={view?.isolation ?? session?.isolation} />
        <Group ml="auto" gap={6} wrap="nowrap">
          {viewers > 1 ? (
            <Tooltip label={`${plural(viewers, "viewer")} here`}>
              <Group gap={4} c="dimmed" fz="sm" wrap="nowrap" data-testid="viewers">
                <Users size={15} aria-hidden="true" />
                {viewers}
                <span className="sr-only">viewers</span>
              </Group>
            </Tooltip>
          ) : null}
          {session && rights.includes("admin") && !visiting ? (
            <Tooltip label="Share">
              <ActionIcon variant="subtle" color="gray" onClick={share.open} aria-label="Share" data-testid="share">
                <UserPlus size={18} />
              </ActionIcon>
            </Tooltip>
          ) : null}
          <Tooltip label="Terminal: the shells of the session">
            <ActionIcon variant="subtle" color="gray" onClick={terminal.toggle} aria-label="Terminal" aria-expanded={terminal.open} data-testid="terminal-open">
              <SquareTerminal size={18} />
            </ActionIcon>
          </Tooltip>
          {narrow && !visiting ? null : <Tooltip label="Events: what the log says, raw">
            <ActionIcon variant="subtle" color="gray" onClick={events.toggle} aria-label="Events" aria-expanded={events.open} data-testid="events-open">
              <ScrollText size={18} />
            </ActionIcon>
          </Tooltip>}
          {visiting ? null : <Limits id={id} session={session} />}
          {visiting ? null : <Tooltip label="Files of the workspace">
            <ActionIcon variant="subtle" color="gray" onClick={files.open} aria-label="Files" data-testid="files">
              <FolderOpen size={18} />
            </ActionIcon>
          </Tooltip>}
          {visiting ? null : <Tooltip label="Network: what it may reach, and did">
            <ActionIcon variant="subtle" color="gray" onClick={network.open} aria-label="Network" data-testid="network">
              <Globe size={18} />
            </ActionIcon>
          </Tooltip>}
          {session && !visiting ? (
            <SessionMenu one={session} onGone={onGone}>
              <Usage live={live} session={session} />
              {narrow ? <Menu.Item leftSection={<ScrollText size={14} />} onClick={events.toggle} data-testid="events-item">
                Events
              </Menu.Item> : null}
            </SessionMenu>
          ) : null}
        </Group>
      </header>
      {live && view && (live.caughtUp || view.order.length > 0 || live.target === 0) ? (
        <RightsHere value={rights}>
          <Log id={id} live={live} />
        </RightsHere>
      ) : (
        <div className="scroller" role="status">
          <Group justify="center" pt="xl" c="dimmed">
            <Loader size="sm" /> Reading the log…
          </Group>
        </div>
      )}
      <div className="sr-only" role="status" aria-live="polite">
        {announced}
      </div>
      <div className="foot">
        {unseen && rights.includes("approve") ? (
          <div className="waiting" data-testid="waiting">
            <span>{plural(asked.length, "answer")} needed from you</span>
            <Button size="compact-sm" variant="filled" color="orange" onClick={jump}>
              Review
            </Button>
          </div>
        ) : null}
        {rights.includes("run") ? <Composer id={id} live={live} session={session} me={me} /> : <Watching rights={rights} />}
        <StatusLine live={live} session={session} />
      </div>
      <Suspense>{filesOpen ? <Files id={id} running={live?.running ?? false} onClose={files.close} /> : null}</Suspense>
      <Suspense>{networkOpen ? <NetworkPanel id={id} onClose={network.close} /> : null}</Suspense>
      <Suspense>{sharing && session ? <Share session={session} onClose={share.close} /> : null}</Suspense>
    </section>
    <Suspense>
      {terminal.open ? (
        <TerminalPanel id={id} mayOpen={session !== undefined && rights.includes("run")} visiting={visiting} pressed={terminal.pressed} full={terminal.full} onFull={terminal.fill} onClose={terminal.close}>
          {waiting ? (
            <Button className="terminalwaiting" size="compact-xs" variant="light" color="orange" onClick={terminal.close} data-testid="terminal-waiting">
              {plural(asked.length, "answer")} needed
            </Button>
          ) : null}
        </TerminalPanel>
      ) : null}
    </Suspense>
    </div>
    <Suspense>
      {events.open ? (
        <EventsPanel id={id} onClose={events.close}>
          {waiting ? (
            <Button size="compact-xs" variant="light" color="orange" onClick={events.close} data-testid="events-waiting">
              {plural(asked.length, "answer")} needed
            </Button>
          ) : null}
        </EventsPanel>
      ) : null}
    </Suspense>
    </div>
  );
}
