import { AppShell, Burger, Group, Notification, Text, UnstyledButton } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { Suspense, useEffect } from "react";
import { useLiveState, useSessions } from "../../model/hooks.ts";
import { go, hrefOf, useRoute } from "../../model/route.ts";
import type { Me } from "../../net/api.ts";
import { store } from "../../wiring.ts";
import { Audit } from "../audit/Audit.tsx";
import { Usage } from "../usage/Usage.tsx";
import { Chat } from "../chat/Chat.tsx";
import { Members } from "../members/Members.tsx";
import { Settings } from "../settings/Settings.tsx";
import { Connection, ConnectionBanner } from "../../ui/Connection.tsx";
import { Mark } from "../../ui/Mark.tsx";
import { IsolationBanner } from "./IsolationBanner.tsx";
import { NewSession } from "./NewSession.tsx";
import { SessionList } from "./SessionList.tsx";
import { useTitle } from "./title.ts";

const NOTICE_MS = 6_000;

export function Shell({ me }: { me: Me }) {
  const route = useRoute();
  const [open, drawer] = useDisclosure(false);
  const sessions = useSessions();
  useTitle(sessions.data ?? [], route);
  const { demo } = me.server;
  const { close } = drawer;
  const here = hrefOf(route);
  useEffect(() => close(), [here, close]);
  return (
    <AppShell
      layout="alt"
      navbar={{ width: 288, breakpoint: "sm", collapsed: { mobile: !open } }}
      header={{ height: { base: 48, sm: 0 } }}
      padding={0}
    >
      <a className="skip" href="#content" onClick={(event) => (event.preventDefault(), focusContent())}>
        Skip to content
      </a>
      <AppShell.Header hiddenFrom="sm" px="sm">
        <Group h="100%" gap="sm" wrap="nowrap">
          <Burger opened={open} onClick={drawer.toggle} size="sm" aria-label={open ? "Close the sessions" : "Open the sessions"} data-testid="menu" />
          <UnstyledButton component="a" href={hrefOf({ page: "new" })}>
            <Group gap={8}>
              <Mark />
              <Text fw={600}>Pilothouse</Text>
            </Group>
          </UnstyledButton>
          <Group ml="auto">
            <Connection compact />
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar aria-label="Sessions" className="nav">
        <SessionList
          sessions={sessions.data}
          error={sessions.error}
          more={sessions.hasNextPage ? { busy: sessions.isFetchingNextPage, load: () => void sessions.fetchNextPage() } : undefined}
          current={route.page === "session" ? route.id : undefined}
          me={me}
          menu={<Burger hiddenFrom="sm" opened={open} onClick={drawer.toggle} size="sm" aria-label="Close the sessions" />}
        />
      </AppShell.Navbar>
      <AppShell.Main id="content" tabIndex={-1} className="main">
        <div className="banners">
          <ConnectionBanner />
          <IsolationBanner server={me.server} />
          {demo ? (
            <div className="banner" data-tone="demo" role="note" data-testid="demo-banner">
              <strong>Demo model.</strong> A scripted stand-in answers, not a real model. Connect one to get real work done.
            </div>
          ) : null}
        </div>
        <Suspense>
          {route.page === "session" ? <Chat key={route.id} id={route.id} me={me} onGone={() => go({ page: "new" })} /> : null}
          {route.page === "new" && me.principal.scopes.includes("run") ? <NewSession me={me} /> : null}
          {route.page === "new" && !me.principal.scopes.includes("run") ? (
            <div className="newsession">
              <Text c="dimmed">You may look at the sessions of your organisation: choose one.</Text>
            </div>
          ) : null}
          {route.page === "settings" ? <Settings me={me} /> : null}
          {route.page === "members" ? <Members me={me} /> : null}
          {route.page === "audit" ? <Audit /> : null}
          {route.page === "usage" ? <Usage /> : null}
        </Suspense>
      </AppShell.Main>
      <Notices />
    </AppShell>
  );
}

const focusContent = (): void => document.getElementById("content")?.focus();

/** What went wrong and belongs to no row. */
function Notices() {
  const notice = useLiveState((state) => state.notice);
  useEffect(() => {
    if (!notice) return;
    const timer = setTimeout(() => store.setState((state) => (state.notice === notice ? omit(state) : state), true), NOTICE_MS);
    return () => clearTimeout(timer);
  }, [notice]);
  return (
    <div className="notices" role="status" aria-live="polite">
      {notice ? (
        <Notification color="red" withCloseButton onClose={() => store.setState(omit, true)} closeButtonProps={{ "aria-label": "Close" }}>
          {notice.text}
        </Notification>
      ) : null}
    </div>
  );
}

function omit(state: ReturnType<typeof store.getState>): ReturnType<typeof store.getState> {
  const rest = { ...state };
  delete rest.notice;
  return rest;
}
