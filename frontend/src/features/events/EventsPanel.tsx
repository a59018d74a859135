/**
 * The events of a session as its log has them, beside the conversation; instead of it on a phone.
 *
 * Test ids: `events-open` (the button above the conversation), `events-item` (on a phone, in its menu), `events-panel` (`data-state`: loading, open, waiting (it
 * reconnects), refused; `data-paused`, `data-head`: the last number that it has), `events-log`, `event` (`data-seq`,
 * `data-type`, `data-open`; in it `event-toggle`, `event-copy`, `event-json`), `events-hole`, `events-text`,
 * `events-types` (then `events-type` with `data-type`, `events-types-all`, `events-types-none`), `events-count`,
 * `events-pause`, `events-follow`, `events-copy`, `events-clear`, `events-again`, `events-said`, `events-earlier`, `events-later`, `events-hide`, `events-waiting`.
 */
import "./events.css";
import { ActionIcon, Alert, Button, Loader, TextInput, Tooltip } from "@mantine/core";
import { Copy, Pause, Play, Search, X } from "lucide-react";
import { useCallback, useDeferredValue, useMemo, useState } from "react";
import type { ReactNode } from "react";
import { useLiveState } from "../../model/hooks.ts";
import { sayError } from "../../net/http.ts";
import { plural } from "../../ui/words.ts";
import { client } from "../../wiring.ts";
import { asLines, eventsOf, filtered, KEPT, matching, noFilter, types } from "./book.ts";
import type { Book, EventRow, Filter } from "./book.ts";
import { EventList } from "./EventList.tsx";
import { TypeFilter } from "./TypeFilter.tsx";
import { useReader } from "./useReader.ts";

interface Props {
  id: string;
  onClose: () => void;
  /** What the conversation waits for, said where it is covered. */
  children?: ReactNode;
}

export function EventsPanel({ id, onClose, children }: Props) {
  const connected = useLiveState((state) => state.connection) === "open";
  const [tries, again] = useState(0);
  const { book: live, state, error, now } = useReader(id, connected, tries);
  const [held, hold] = useState<Book>();
  const [filter, choose] = useState<Filter>(noFilter);
  const [said, say] = useState("");
  // Of another log nothing stands still.
  const standing = held && live.seen >= held.seen ? held : undefined;
  const book = standing ?? live;
  const wanted = useDeferredValue(filter);
  const rows = useMemo(() => matching(book.rows, wanted), [book.rows, wanted]);
  const counts = useMemo(() => types(book.rows), [book.rows]);
  const shown = eventsOf(rows).length;
  const all = counts.reduce((sum, [, count]) => sum + count, 0);
  const fresh = live.seen - book.seen;

  const pause = useCallback((): void => {
    hold((before) => before ?? now());
    say("Paused.");
  }, [now]);
  const follow = (): void => {
    hold(undefined);
    say("Following.");
  };
  const copy = useCallback((text: string, what: string): void => {
    copyText(text).then(
      () => say(`Copied ${what}.`),
      () => client.say("The browser did not let the page write to the clipboard."),
    );
  }, []);
  const copyRow = useCallback((row: EventRow): void => copy(row.text, `event ${row.seq}`), [copy]);
  const clear = (): void => choose(noFilter);

  return (
    <section className="eventspanel" aria-label="Events" data-testid="events-panel" data-state={state} data-paused={standing !== undefined} data-head={live.rows.at(-1)?.seq ?? 0}>
      <header className="eventshead">
        <h2>Events</h2>
        <span className="quiet" data-testid="events-count">
          {all === 0 ? "" : filtered(wanted) ? `${shown} of ${all}` : plural(shown, "event")}
        </span>
        <div className="eventshead-end">
          <Button size="compact-xs" variant={standing ? "light" : "default"} leftSection={standing ? <Play size={13} /> : <Pause size={13} />} onClick={standing ? follow : pause} disabled={live.rows.length === 0} data-testid="events-pause">
            {standing ? (fresh > 0 ? `Follow (${fresh} new)` : "Follow") : "Pause"}
          </Button>
          <Tooltip label={`Copy ${plural(shown, "event")} as JSON lines`}>
            <ActionIcon variant="subtle" color="gray" size="sm" aria-label={`Copy ${plural(shown, "event")} as JSON lines`} disabled={shown === 0} onClick={() => copy(asLines(rows), plural(shown, "event"))} data-testid="events-copy">
              <Copy size={15} />
            </ActionIcon>
          </Tooltip>
          <ActionIcon variant="subtle" color="gray" size="sm" aria-label="Hide the events" onClick={onClose} data-testid="events-hide">
            <X size={16} />
          </ActionIcon>
        </div>
      </header>
      {children ? <div className="eventsline eventscovered">{children}</div> : null}
      <div className="eventsfilter" role="search" aria-label="Among the events">
        <TextInput
          size="xs" aria-label="Text in the events" placeholder="Text…" leftSection={<Search size={13} />} value={filter.text} data-testid="events-text"
          onChange={(event) => choose({ ...filter, text: event.currentTarget.value })}
          onKeyDown={(event) => {
            // Twice it would stop the agent's job.
            if (event.key !== "Escape") return;
            event.preventDefault();
            choose({ ...filter, text: "" });
          }}
        />
        <TypeFilter counts={counts} hidden={filter.hidden} onChange={(hidden) => choose({ ...filter, hidden })} />
      </div>
      {state === "waiting" && connected ? (
        <div className="eventsline" data-tone="warn" role="status">
          Connecting again. What you see may be behind.
        </div>
      ) : null}
      {state === "refused" ? (
        <div className="eventsfault">
          <Alert color="red" variant="light" role="alert">
            {sayError(error)}
            <Button mt={8} display="block" size="compact-xs" variant="default" onClick={() => again(tries + 1)} data-testid="events-again">
              Try again
            </Button>
          </Alert>
        </div>
      ) : null}
      {rows.length > 0 ? (
        <EventList rows={rows} held={standing !== undefined} fresh={fresh} onHold={pause} onFollow={follow} onCopy={copyRow} />
      ) : (
        <div className="eventsempty" role="status">
          {book.rows.length > 0 ? (
            <>
              <span>No event matches.</span>
              <Button size="compact-xs" variant="default" onClick={clear} data-testid="events-clear">
                Show all
              </Button>
            </>
          ) : state === "loading" || state === "waiting" ? (
            <>
              <Loader size="sm" /> <span>Reading the log…</span>
            </>
          ) : state === "open" ? (
            "Nothing has happened yet."
          ) : null}
        </div>
      )}
      {book.dropped > 0 ? <p className="eventsfoot quiet">The newest {KEPT} at most; <code>pilothouse logs --json</code> has all.</p> : null}
      <div className="sr-only" role="status" aria-live="polite" data-testid="events-said">
        {said}
      </div>
    </section>
  );
}

/** Where the page did not come by TLS there is no clipboard at all: that is a failure like any other. */
async function copyText(text: string): Promise<void> {
  await navigator.clipboard.writeText(text);
}
