import { Button } from "@mantine/core";
import { ChevronDown, ChevronRight, Copy } from "lucide-react";
import { memo } from "react";
import { Exact } from "../../ui/Exact.tsx";
import { bytes } from "../../ui/words.ts";
import { pretty, summary } from "./book.ts";
import type { EventRow, HoleRow } from "./book.ts";

/** Of an opened event; a whole file in one event would stop the page. Copying takes all of it. */
const SHOWN_CHARS = 20_000;
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** By the reader's clock, as everywhere in the page; the event itself has the exact time. */
function time(at: string): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? "" : CLOCK.format(date);
}

interface Props {
  row: EventRow;
  open: boolean;
  /** One of them is in the order of Tab; arrows go to the others. */
  current: boolean;
  onToggle: (seq: number) => void;
  onCopy: (row: EventRow) => void;
}

// A page has hundreds of these: plain buttons, which cost little.
export const EventLine = memo(function EventLine({ row, open, current, onToggle, onCopy }: Props) {
  const copy = `Copy event ${row.seq} as JSON`;
  return (
    <li className="eventline" data-testid="event" data-seq={row.seq} data-type={row.type} data-open={open}>
      <button type="button" className="eventhead" aria-expanded={open} tabIndex={current ? 0 : -1} onClick={() => onToggle(row.seq)} data-line data-testid="event-toggle">
        {open ? <ChevronDown size={13} aria-hidden="true" /> : <ChevronRight size={13} aria-hidden="true" />}
        <span className="eventseq">{row.seq}</span>
        <span className="eventtype"><Exact text={row.type} /></span>
        <time className="eventtime" dateTime={row.at} title={row.at}>{time(row.at)}</time>
        <span className="eventwhat">{open ? "" : <Exact text={summary(row)} />}</span>
      </button>
      <button type="button" className="eventcopy" tabIndex={current ? 0 : -1} aria-label={copy} title={copy} onClick={() => onCopy(row)} data-testid="event-copy">
        <Copy size={13} />
      </button>
      {open ? <Whole row={row} onCopy={onCopy} /> : null}
    </li>
  );
});

function Whole({ row, onCopy }: { row: EventRow; onCopy: (row: EventRow) => void }) {
  const text = pretty(row.text);
  const cut = text.length > SHOWN_CHARS;
  return (
    <div className="eventwhole">
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls, so the keyboard must reach it */}
      <pre className="mono exact" tabIndex={0} aria-label={`Event ${row.seq}`} data-testid="event-json">
        <Exact text={cut ? text.slice(0, SHOWN_CHARS) : text} />
      </pre>
      {cut ? (
        <p className="quiet">
          The beginning of {bytes(row.text.length)}.{" "}
          <Button size="compact-xs" variant="subtle" onClick={() => onCopy(row)}>
            Copy all of it
          </Button>
        </p>
      ) : null}
    </div>
  );
}

export function HoleLine({ row }: { row: HoleRow }) {
  const span = row.from === row.seq ? `Event ${row.seq}` : `Events ${row.from} to ${row.seq}`;
  return (
    <li className="eventhole" data-testid="events-hole" data-seq={row.seq}>
      {span} {row.why === "gone" ? "are not kept any more." : "came before, and are not loaded here."}
    </li>
  );
}
