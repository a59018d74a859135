import { ActionIcon, Badge, Button, Menu, Text, Tooltip } from "@mantine/core";
import { Accessibility, ClipboardPaste, Copy, Ellipsis, Eye, Power, Search, Settings2, Users, ZoomIn, ZoomOut } from "lucide-react";
import { hrefOf } from "../../model/route.ts";
import type { Viewer } from "../../protocol/shell.ts";
import { bytes, plural, who } from "../../ui/words.ts";
import { copy } from "./copy.ts";
import { prefer, usePrefs } from "./prefs.ts";
import type { Shown, Tab } from "./tab.ts";
import { endOf, STATES } from "./words.ts";

interface Props {
  tab: Tab;
  shown: Shown;
  mayOpen: boolean;
  visiting: boolean;
  onSearch: () => void;
  onPaste: () => void;
  onEnd: () => void;
}

/** Between the tabs and the screen: who is here, how the connection does, what can be done. */
export function Tools({ tab, shown, mayOpen, visiting, onSearch, onPaste, onEnd }: Props) {
  const { state, latency, types, mayType, viewers, sending } = shown;
  const open = state === "open";
  const others = viewers.some((one) => one.role === "type" && one.id !== shown.you);
  return (
    <div className="terminaltools">
      <span className="terminalstate">
        <span className="dot" data-state={state === "held" ? "waiting" : state === "ended" ? "idle" : state} aria-hidden="true" />
        <span role="status" data-testid="terminal-state" data-state={state}>
          {STATES[state]}
        </span>
        {open && latency !== undefined ? (
          <span className="quiet" title="There and back to the server" data-testid="terminal-latency">
            {latency < 1 ? "< 1" : latency} ms
          </span>
        ) : null}
      </span>
      {sending > 0 ? (
        <span className="terminalstate" data-testid="terminal-sending">
          <Text span fz="xs">{bytes(sending)} to send</Text>
          <Button size="compact-xs" variant="default" onClick={() => tab.socket.stopSending()}>
            Stop
          </Button>
        </span>
      ) : null}
      <span id="terminal-leave" className="terminalleave quiet">
        {state === "ended" ? "" : "Tab goes to the shell. Ctrl+Shift+F6 leaves the terminal."}
      </span>
      <span className="terminaltools-end">
        {open && !types ? (
          <Badge tt="none" color="orange" variant="light" size="sm" leftSection={<Eye size={11} aria-hidden="true" />} title={mayType ? "What you type does not reach the shell until you take the typing." : "You have no right to type in the shells of this session."} data-testid="terminal-badge">
            Watching
          </Badge>
        ) : null}
        {open && mayType && (!types || others) ? (
          <Tooltip label={types ? "The others will watch" : "Whoever types now will watch"}>
            <Button size="compact-xs" variant="default" onClick={() => (tab.socket.ask({ type: "take" }), tab.screen.focus())} data-testid="terminal-take">
              {types ? "Type alone" : "Take the typing"}
            </Button>
          </Tooltip>
        ) : null}
        {open ? <Viewers tab={tab} shown={shown} /> : null}
        <Tooltip label="Search (Ctrl+Shift+F)">
          <ActionIcon variant="subtle" color="gray" size="sm" onClick={onSearch} aria-label="Search in the terminal" data-testid="terminal-search">
            <Search size={15} />
          </ActionIcon>
        </Tooltip>
        <More tab={tab} shown={shown} mayOpen={mayOpen} visiting={visiting} onPaste={onPaste} onEnd={onEnd} />
      </span>
    </div>
  );
}

/** What somebody must know before going on, in a line above the screen. */
export function StateLine({ tab, shown, mayOpen, onClose, onNew }: { tab: Tab; shown: Shown; mayOpen: boolean; onClose: () => void; onNew: () => void }) {
  const { state, note, exit, why, types } = shown;
  return (
    <div role="status" aria-live="polite" className="terminallines">
      {state === "waiting" ? (
        <div className="terminalline" data-tone="warn">
          <span>Reconnecting… The shell goes on.{types ? " What you type is sent when the connection is back." : ""}</span>
        </div>
      ) : null}
      {state === "refused" ? (
        <div className="terminalline" data-tone="warn">
          <span>{why || "The server ended the connection."}</span>
          <Button size="compact-xs" variant="default" onClick={() => tab.socket.start()} data-testid="terminal-again">
            Connect again
          </Button>
        </div>
      ) : null}
      {state === "ended" ? (
        <div className="terminalline">
          <span>{endOf(exit)}</span>
          <Button size="compact-xs" variant="default" onClick={onClose} data-testid="terminal-close">
            Close
          </Button>
          {mayOpen ? (
            <Button size="compact-xs" variant="default" onClick={onNew}>
              New shell
            </Button>
          ) : null}
        </div>
      ) : null}
      {note && state !== "refused" ? (
        <div className="terminalline" data-testid="terminal-note">
          <span>{note}</span>
          <Button size="compact-xs" variant="subtle" color="gray" onClick={() => tab.unnote()}>
            Dismiss
          </Button>
        </div>
      ) : null}
    </div>
  );
}

function Viewers({ tab, shown }: { tab: Tab; shown: Shown }) {
  const { viewers, you, types } = shown;
  return (
    <Menu position="bottom-end" withinPortal shadow="md" width={280} withInitialFocusPlaceholder={false}>
      <Menu.Target>
        <Button size="compact-xs" variant="subtle" color="gray" leftSection={<Users size={14} />} aria-label={`${plural(viewers.length, "viewer")} of this shell`} data-testid="terminal-viewers">
          {viewers.length}
        </Button>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>{types && viewers.some((one) => mayBeGiven(one, you)) ? "Choose who types instead of you" : "Who looks at this shell"}</Menu.Label>
        {viewers.map((one) => {
          const give = types && mayBeGiven(one, you);
          return (
            <Menu.Item key={one.id} disabled={!give} onClick={() => tab.socket.ask({ type: "give", to: one.id })} data-testid={give ? "terminal-give" : "terminal-viewer"} data-role={one.role} data-you={one.id === you}>
              <Row one={one} you={one.id === you} />
            </Menu.Item>
          );
        })}
        {types ? (
          <>
            <Menu.Divider />
            <Menu.Item onClick={() => tab.socket.ask({ type: "role", role: "watch" })} data-testid="terminal-watch">
              Only watch
            </Menu.Item>
          </>
        ) : null}
      </Menu.Dropdown>
    </Menu>
  );
}

const mayBeGiven = (one: Viewer, you: string): boolean => one.mayType && one.id !== you && one.role === "watch";

const Row = ({ one, you }: { one: Viewer; you: boolean }) => (
  <span className="terminalviewer">
    <span className="ellipsis">
      {who(one.name)}
      {you ? " (you)" : ""}
    </span>
    <span>{one.role === "type" ? "types" : "watches"}</span>
  </span>
);

function More({ tab, shown, mayOpen, visiting, onPaste, onEnd }: Omit<Props, "onSearch">) {
  const { fontSize, reader } = usePrefs();
  const over = shown.state === "ended";
  return (
    <Menu position="bottom-end" withinPortal shadow="md" width={260} withInitialFocusPlaceholder={false}>
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" size="sm" aria-label="More for this terminal" data-testid="terminal-menu">
          <Ellipsis size={16} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Item leftSection={<Copy size={14} />} rightSection={<kbd className="key">Ctrl+Shift+C</kbd>} onClick={() => copy(tab)} data-testid="terminal-copy">
          Copy
        </Menu.Item>
        <Menu.Item leftSection={<ClipboardPaste size={14} />} rightSection={<kbd className="key">Ctrl+Shift+V</kbd>} onClick={onPaste} disabled={!shown.types || over} data-testid="terminal-paste">
          Paste…
        </Menu.Item>
        <Menu.Divider />
        <Menu.Item leftSection={<ZoomIn size={14} />} closeMenuOnClick={false} onClick={() => prefer({ fontSize: fontSize + 1 })} data-testid="terminal-larger">
          Larger text <span className="quiet">({fontSize} px)</span>
        </Menu.Item>
        <Menu.Item leftSection={<ZoomOut size={14} />} closeMenuOnClick={false} onClick={() => prefer({ fontSize: fontSize - 1 })} data-testid="terminal-smaller">
          Smaller text
        </Menu.Item>
        <Menu.Item leftSection={<Accessibility size={14} />} closeMenuOnClick={false} onClick={() => prefer({ reader: !reader })} data-testid="terminal-reader">
          For screen readers <span className="quiet">({reader ? "on" : "off"})</span>
        </Menu.Item>
        {visiting ? null : (
          <Menu.Item leftSection={<Settings2 size={14} />} component="a" href={hrefOf({ page: "settings" })}>
            Settings of terminals
          </Menu.Item>
        )}
        <Menu.Divider />
        <Menu.Item data-danger leftSection={<Power size={14} />} onClick={onEnd} disabled={over || !mayOpen} data-testid="terminal-end">
          End this shell…
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
