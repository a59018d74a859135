import { useComputedColorScheme } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import type { Finding } from "../../net/shellsocket.ts";
import type { ShellRow } from "../../net/shells.ts";
import { HttpError } from "../../net/http.ts";
import { Confirm } from "../../ui/Confirm.tsx";
import { api, client } from "../../wiring.ts";
import { bend, cursor, NONE } from "./keys.ts";
import type { Bar, BarKey } from "./keys.ts";
import { copy } from "./copy.ts";
import { KeysBar } from "./KeysBar.tsx";
import { LinkDialog } from "./LinkDialog.tsx";
import { cleaned, mustAsk, PASTE_MAX } from "./paste.ts";
import { PasteDialog } from "./PasteDialog.tsx";
import { prefs, usePrefs } from "./prefs.ts";
import { Search } from "./Search.tsx";
import { StateLine, Tools } from "./Tools.tsx";
import type { Tab } from "./tab.ts";
import { keyOf } from "./tabs.ts";
import type { Tabs } from "./tabs.ts";
import { useShown } from "./useShown.ts";
import { nameOf } from "./words.ts";

/** A page that nobody sees draws slowly, and would slow down what it types in: it lets go after this. */
const HIDDEN_MS = 30_000;

interface Props {
  session: string;
  shell: ShellRow;
  tabs: Tabs;
  mayOpen: boolean;
  visiting: boolean;
  onClose: () => void;
  onNew: () => void;
}
type Asking = { is: "paste"; text: string } | { is: "link"; address: string } | { is: "end" } | undefined;

export function ActiveShell({ session, shell, tabs, mayOpen, visiting, onClose, onNew }: Props) {
  const queries = useQueryClient();
  const scheme = useComputedColorScheme("light", { getInitialValueInEffect: false });
  const { fontSize, reader } = usePrefs();
  const box = useRef<HTMLDivElement>(null);
  const [asking, ask] = useState<Asking>();
  const [searching, search] = useState(false);
  const [held, hold] = useState<Bar>(NONE);
  const now = useRef({ held, scheme });
  useEffect(() => {
    now.current = { held, scheme };
  }, [held, scheme]);

  const [tab] = useState(() =>
    tabs.get(shell, {
      url: api.shellUrl(session, shell.shellId),
      label: nameOf(shell.shellId),
      look: () => ({ ...prefs(), scheme: document.documentElement.dataset.mantineColorScheme === "dark" ? "dark" : "light" }),
      mayWriteClipboard: () => prefs().clipboard,
      onDoubt: async () => {
        const found = await whatIsThere(session, shell);
        if (found.is === "gone") void queries.invalidateQueries({ queryKey: ["shells", session] });
        // One's rights are others now, or nobody is signed in: all is read again.
        if (found.is === "refused") void queries.invalidateQueries();
        return found;
      },
    }),
  );
  const shown = useShown(tab) ?? tab.snapshot();

  useEffect(() => {
    tab.listen({
      onLink: (address) => ask({ is: "link", address }),
      onKey: (event) => onKey(event, tab, () => search(true)),
      bend: (data) => {
        const bent = bend(data, now.current.held);
        if (bent !== data) hold(NONE);
        return bent;
      },
    });
    if (box.current) tab.show(box.current);
    tab.screen.focus();
    return () => tab.hide();
  }, [tab]);
  useEffect(() => tab.screen.look({ fontSize, scheme, reader }), [tab, fontSize, scheme, reader]);
  useSight(tab);
  // The list is read anew when the shell has ended, so that others see it too.
  useEffect(() => {
    if (shown.state === "ended") void queries.invalidateQueries({ queryKey: ["shells", session] });
  }, [shown.state, queries, session]);

  const back = (): void => {
    ask(undefined);
    // The dialog gives the focus back first.
    setTimeout(() => tab.screen.focus(), 120);
  };
  const paste = (text: string): void => {
    const clean = cleaned(text);
    if (clean.length > PASTE_MAX) return client.say("That is too much for a terminal: more than 4 MiB. Put it into a file.");
    if (clean === "") return;
    if (mustAsk(clean)) ask({ is: "paste", text: clean });
    else {
      tab.paste(clean);
      back();
    }
  };
  const press = (key: BarKey): void => {
    if ("holds" in key) return hold((before) => ({ ...before, [key.holds]: !before[key.holds] }));
    if ("cursor" in key) tab.socket.type(cursor(key.cursor, held, tab.screen.applicationKeys));
    else tab.socket.type(bend(key.says, held));
    hold(NONE);
  };
  return (
    <>
      <Tools
        tab={tab} shown={shown} mayOpen={mayOpen} visiting={visiting}
        onSearch={() => search(!searching)}
        onPaste={() => void readClipboard().then((text) => (text === undefined ? ask({ is: "paste", text: "" }) : paste(text)))}
        onEnd={() => ask({ is: "end" })}
      />
      <div className="terminalstage">
        {/* eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- what is inside takes the keys */}
        <div
          ref={box} id="terminal-screen" className="terminalbox" role="tabpanel" tabIndex={-1} aria-label={nameOf(shell.shellId)}
          data-testid="terminal" data-shell={shell.shellId}
          // Esc twice stops the agent's job, but not when it is said to a shell.
          onKeyDown={(event) => event.stopPropagation()}
          onPasteCapture={(event) => {
            event.preventDefault();
            event.stopPropagation();
            paste(event.clipboardData.getData("text/plain"));
          }}
        />
        {/* Over the screen: a shell is not to have another size because something is said. */}
        <div className="terminalover" data-at={tab.screen.upper ? "bottom" : "top"}>
          <StateLine tab={tab} shown={shown} mayOpen={mayOpen} onClose={onClose} onNew={onNew} />
        </div>
        <div className="terminalover">
          {searching ? <Search screen={tab.screen} onClose={() => (search(false), tab.screen.focus())} /> : null}
        </div>
      </div>
      {shown.types || shown.mayType ? <KeysBar held={held} onPress={press} /> : null}
      {asking?.is === "paste" ? (
        <PasteDialog text={asking.text} bracketed={tab.screen.bracketed} onClose={back} onPaste={(text) => (tab.paste(cleaned(text)), back())} />
      ) : null}
      {asking?.is === "link" ? <LinkDialog address={asking.address} onClose={back} /> : null}
      {asking?.is === "end" ? (
        <Confirm title="End this shell?" act="End the shell" doing={() => api.endShell(session, shell.shellId)} onClose={() => ask(undefined)}>
          Programs that run in it are ended, for everybody who uses it. What they wrote to files stays.
        </Confirm>
      ) : null}
    </>
  );
}

/** Whether there is anything to come back to. The handshake itself tells a page nothing. */
async function whatIsThere(session: string, shell: ShellRow): Promise<Finding> {
  try {
    const { items } = await api.shells(session);
    return items.some((one) => keyOf(one) === keyOf(shell)) ? { is: "there" } : { is: "gone" };
  } catch (error) {
    if (!(error instanceof HttpError) || error.status === 0 || error.status >= 500 || error.status === 429) return { is: "there" };
    if (error.status === 401) return { is: "refused", why: "You are not signed in any more." };
    return { is: "refused", why: error.status === 404 ? "This session is gone, or not for you any more." : error.message };
  }
}

/** A page in the background lets go of the shell, which then runs at its own pace. */
function useSight(tab: Tab): void {
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = (): void => {
      clearTimeout(timer);
      if (document.hidden) timer = setTimeout(() => tab.socket.hold(), HIDDEN_MS);
      else if (tab.socket.state === "held") tab.socket.start();
      else tab.socket.hurry();
    };
    const hurry = (): void => tab.socket.hurry();
    document.addEventListener("visibilitychange", look);
    window.addEventListener("online", hurry);
    return () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
      window.removeEventListener("online", hurry);
    };
  }, [tab]);
}

/** What the browser lets us read; undefined where it does not. */
async function readClipboard(): Promise<string | undefined> {
  try {
    return await navigator.clipboard.readText();
  } catch {
    return undefined;
  }
}

/** Keys that are the page's, not the shell's. */
function onKey(event: KeyboardEvent, tab: Tab, search: () => void): boolean {
  // A shell that has ended has no use for it: it leaves, as everywhere else.
  if (event.key === "Tab" && tab.snapshot().state === "ended") return true;
  if (!event.ctrlKey || !event.shiftKey || event.altKey || event.metaKey) return false;
  const key = event.key.toLowerCase();
  if (key === "v") return true; // the browser pastes
  const act = { f6: leave, c: () => copy(tab), f: search }[key];
  if (!act) return false;
  event.preventDefault();
  if (event.type === "keydown") act();
  return true;
}

const leave = (): void => document.querySelector<HTMLElement>('.terminaltab[aria-selected="true"]')?.focus();
