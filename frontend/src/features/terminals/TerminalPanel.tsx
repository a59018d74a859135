/**
 * The terminals of a session, below its conversation; instead of it on a phone.
 *
 * Test ids: `terminal-open` (the button above the conversation; when the session has no shell, it makes the first),
 * `terminal-panel` (`data-full`), `terminal-new`, `terminal-tab` (`data-shell`, `aria-selected`), `terminal` (the screen:
 * `data-shell`; in it `.xtermhost` with
 * `data-cols`, `data-rows`, `data-drawn`: bytes of output drawn by this page), `terminal-state` (`data-state`:
 * connecting, open, waiting (it reconnects), ended, refused, held (not connected on purpose)), `terminal-badge` (there
 * while one watches), `terminal-take`, `terminal-viewers` (the button; `terminal-viewer` with `data-role`, `data-you`;
 * `terminal-give`), `terminal-latency`, `terminal-note`, `terminal-again`, `terminal-close` (of an ended tab),
 * `terminal-end` (in the menu; then `confirm`), `terminal-menu`, `terminal-copy`, `terminal-paste`, `terminal-larger`,
 * `terminal-smaller`, `terminal-reader`, `terminal-search`, `terminal-search-text`, `terminal-full`, `terminal-hide`,
 * `terminal-paste-confirm` (the dialog; `terminal-paste-do`, `terminal-paste-text`), `terminal-link` (the dialog;
 * `terminal-link-open`), `terminal-keys` (`terminal-key` with `data-key`), `terminal-sending`.
 *
 * The text of a screen is in the page only when it is drawn with elements, or for a screen reader:
 * `localStorage["pilothouse.terminal"] = '{"reader":true}'`, then `.xterm-accessibility-tree` has it. After a reload the
 * panel is open again, on the shell that was looked at.
 */
import "@xterm/xterm/css/xterm.css";
import "./terminal.css";
import { ActionIcon, Button, Loader, Text, Tooltip } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Maximize2, Minimize2, Plus, X } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import type { CSSProperties, KeyboardEvent, ReactNode } from "react";
import type { ShellRow } from "../../net/shells.ts";
import { sayError } from "../../net/http.ts";
import { Fault } from "../../ui/Fault.tsx";
import { api } from "../../wiring.ts";
import { ActiveShell } from "./ActiveShell.tsx";
import { opened, remember } from "./opened.ts";
import { Resizer } from "./Resizer.tsx";
import { keyOf, NOTHING, shownOf, Tabs } from "./tabs.ts";
import { usePrefs } from "./prefs.ts";
import { useShown } from "./useShown.ts";
import { commandOf, nameOf } from "./words.ts";

const REFRESH_MS = 4_000;
const MAY_NOT = "You may look at the shells that are there. To open one takes the right to run here.";

interface Props {
  id: string;
  /** Whether the reader may make a shell, and end one. */
  mayOpen: boolean;
  /** By a share link: there are no settings. */
  visiting: boolean;
  /** The button was pressed, as opposed to a reload: a session without a shell gets one. */
  pressed: boolean;
  full: boolean;
  onFull: (full: boolean) => void;
  onClose: () => void;
  /** What the conversation waits for, said where it is covered. */
  children?: ReactNode;
}

export function TerminalPanel({ id, mayOpen, visiting, pressed, full, onFull, onClose, children }: Props) {
  const queries = useQueryClient();
  const [tabs] = useState(() => new Tabs());
  const { share } = usePrefs();
  const list = useQuery({ queryKey: ["shells", id], queryFn: ({ signal }) => api.shells(id, signal), refetchInterval: REFRESH_MS });
  const [pinned, pin] = useState(() => opened(id)?.shell);
  const making = useMutation({
    mutationFn: () => api.openShell(id, undefined),
    onSuccess: async (made) => {
      const queryKey = ["shells", id];
      // A list that was asked for before may not have it.
      await queries.cancelQueries({ queryKey });
      queries.setQueryData<{ items: ShellRow[] }>(queryKey, (had) => ({ items: [...(had?.items ?? []).filter((one) => keyOf(one) !== keyOf(made)), made] }));
      pin(keyOf(made));
      void queries.invalidateQueries({ queryKey });
    },
  });
  useEffect(() => {
    tabs.keep();
    return () => tabs.release();
  }, [tabs]);

  const rows = tabs.rows(list.data?.items ?? []);
  const active = shownOf(rows, pinned);
  // As soon as it is shown: from here on only a person changes it.
  const shown = active ? keyOf(active) : NOTHING;
  if (list.data && pinned !== shown) pin(shown);
  useEffect(() => remember(active ? { session: id, shell: active.shellId } : { session: id }), [id, active]);

  const first = useRef(pressed);
  const { mutate: make } = making;
  useEffect(() => {
    if (!list.data || !first.current || !mayOpen) return;
    first.current = false;
    if (list.data.items.length === 0) make();
  }, [list.data, make, mayOpen]);

  const close = (shell: ShellRow): void => {
    const at = rows.indexOf(shell);
    tabs.close(shell);
    making.reset();
    const next = rows[at + 1] ?? rows[at - 1];
    pin(next ? keyOf(next) : NOTHING);
    void queries.invalidateQueries({ queryKey: ["shells", id] });
  };
  return (
    <section className="terminalpanel" aria-label="Terminal" data-testid="terminal-panel" data-full={full} style={{ "--share": share } as CSSProperties}>
      {full ? null : <Resizer />}
      <div className="terminalhead">
        <TabList tabs={tabs} rows={rows} active={active} onChoose={(shell) => pin(keyOf(shell))} />
        <Tooltip label={mayOpen ? "New shell" : MAY_NOT} multiline maw={260}>
          <ActionIcon variant="subtle" color="gray" size="sm" loading={making.isPending} {...(mayOpen ? {} : { "data-disabled": true })} aria-disabled={!mayOpen} aria-label={mayOpen ? "New shell" : `New shell. ${MAY_NOT}`} onClick={() => mayOpen && make()} data-testid="terminal-new">
            <Plus size={16} />
          </ActionIcon>
        </Tooltip>
        <div className="terminalhead-end">
          {children}
          <ActionIcon className="wide-only" variant="subtle" color="gray" size="sm" onClick={() => onFull(!full)} aria-label={full ? "Show the conversation" : "Fill the page"} aria-pressed={full} data-testid="terminal-full">
            {full ? <Minimize2 size={15} /> : <Maximize2 size={15} />}
          </ActionIcon>
          <ActionIcon variant="subtle" color="gray" size="sm" onClick={onClose} aria-label="Hide the terminal" data-testid="terminal-hide">
            <X size={16} />
          </ActionIcon>
        </div>
      </div>
      {making.error ? (
        <div className="terminalline" data-tone="warn" role="alert" data-testid="terminal-refused">
          <span>No shell was opened: {sayError(making.error).replace(/\.$/, "")}.</span>
          <Button size="compact-xs" variant="default" onClick={() => making.reset()}>
            Dismiss
          </Button>
        </div>
      ) : null}
      {list.error && !list.data ? (
        <div className="terminalfault">
          <Fault error={list.error} again={() => void list.refetch()} />
        </div>
      ) : null}
      {active ? (
        <ActiveShell key={keyOf(active)} session={id} shell={active} tabs={tabs} mayOpen={mayOpen} visiting={visiting} onClose={() => close(active)} onNew={() => make()} />
      ) : (
        <div className="terminalempty" role="status">
          {list.isPending || making.isPending ? (
            <>
              <Loader size="sm" /> <Text c="dimmed">{making.isPending ? "Opening a shell…" : "Looking for shells…"}</Text>
            </>
          ) : (
            <Text c="dimmed">{rows.length > 0 ? "No shell is shown. Choose one above." : mayOpen ? "No shell is running here. Open one with +." : `No shell is running here. ${MAY_NOT}`}</Text>
          )}
        </div>
      )}
    </section>
  );
}

interface ListProps {
  tabs: Tabs;
  rows: readonly ShellRow[];
  active: ShellRow | undefined;
  onChoose: (shell: ShellRow) => void;
}

function TabList({ tabs, rows, active, onChoose }: ListProps) {
  const at = active ? rows.indexOf(active) : -1;
  const onKey = (event: KeyboardEvent<HTMLElement>): void => {
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: rows.length - 1 }[event.key];
    const row = to === undefined ? undefined : rows[(to + rows.length) % rows.length];
    if (!row) return;
    event.preventDefault();
    onChoose(row);
    event.currentTarget.querySelector<HTMLElement>(`[data-key="${CSS.escape(keyOf(row))}"]`)?.focus();
  };
  return (
    <div className="terminaltabs" role="tablist" aria-label="Shells" tabIndex={-1} onKeyDown={onKey}>
      {rows.map((one) => (
        <TabButton key={keyOf(one)} shell={one} tabs={tabs} selected={one === active} onChoose={() => onChoose(one)} />
      ))}
    </div>
  );
}

function TabButton({ shell, tabs, selected, onChoose }: { shell: ShellRow; tabs: Tabs; selected: boolean; onChoose: () => void }) {
  const shown = useShown(tabs.known(shell));
  const over = !shell.running || shown?.state === "ended";
  const button = useRef<HTMLButtonElement>(null);
  const name = nameOf(shell.shellId);
  const label = shown?.title || commandOf(shell.command);
  useEffect(() => {
    if (selected) button.current?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [selected, label]);
  return (
    <button ref={button} type="button" role="tab" className="terminaltab" aria-selected={selected} aria-controls={selected ? "terminal-screen" : undefined} tabIndex={selected ? 0 : -1} title={label ? `${label} (${name})` : name} onClick={onChoose} data-testid="terminal-tab" data-shell={shell.shellId} data-key={keyOf(shell)} data-over={over || undefined}>
      <span className="ellipsis">{label || name}</span>
      {over ? <span className="sr-only">, ended</span> : null}
    </button>
  );
}
