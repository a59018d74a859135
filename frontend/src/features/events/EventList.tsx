import { Button } from "@mantine/core";
import { ArrowDown, ArrowUp } from "lucide-react";
import { useCallback, useLayoutEffect, useRef, useState } from "react";
import type { KeyboardEvent } from "react";
import { flushSync } from "react-dom";
import { DRAWN, STEP } from "./book.ts";
import type { BookRow, EventRow } from "./book.ts";
import { EventLine, HoleLine } from "./EventLine.tsx";

/** This near the end counts as being there. */
const NEAR_PX = 40;

interface Props {
  rows: readonly BookRow[];
  /** The rows stand still: who reads is not to be moved by what comes meanwhile. */
  held: boolean;
  /** How many came meanwhile. */
  fresh: number;
  onHold: () => void;
  onFollow: () => void;
  onCopy: (row: EventRow) => void;
}

/** At most `DRAWN` rows are in the page: the newest, or, while the list stands still, a window that is moved by hand. */
export function EventList({ rows, held, fresh, onHold, onFollow, onCopy }: Props) {
  const [opened, setOpened] = useState<ReadonlySet<number>>(new Set());
  const [current, setCurrent] = useState<number>();
  const [back, setBack] = useState(0);
  const box = useRef<HTMLDivElement>(null);
  const top = useRef(0);
  if (!held && back > 0) setBack(0);
  const skipped = held ? Math.min(back, Math.max(0, rows.length - DRAWN)) : 0;
  const last = rows.length - skipped;
  const first = Math.max(0, last - DRAWN);
  const drawn = rows.slice(first, last);
  const at = drawn.some((row) => row.seq === current) ? current : drawn.findLast((row) => row.is === "event")?.seq;

  useLayoutEffect(() => {
    if (box.current && !held) box.current.scrollTop = box.current.scrollHeight;
  }, [held, drawn]);
  const onScroll = (): void => {
    if (!box.current) return;
    const { scrollTop, scrollHeight, clientHeight } = box.current;
    const up = scrollTop < top.current - 2 && scrollHeight - scrollTop - clientHeight > NEAR_PX;
    top.current = scrollTop;
    if (up) onHold();
  };
  const toggle = useCallback(
    (seq: number): void => {
      onHold();
      setCurrent(seq);
      setOpened((before) => {
        const next = new Set(before);
        if (!next.delete(seq)) next.add(seq);
        return next;
      });
    },
    [onHold],
  );
  /** Moves the window, and keeps a row that stays in it where it is on the screen. */
  const move = (by: number): void => {
    const element = box.current;
    if (!element) return;
    onHold();
    const stays = drawn[by > 0 ? 0 : drawn.length - 1]?.seq;
    const place = (): number => element.querySelector(`[data-seq="${stays ?? 0}"]`)?.getBoundingClientRect().top ?? 0;
    const before = place();
    flushSync(() => setBack(Math.max(0, Math.min(skipped + by, rows.length - DRAWN))));
    element.scrollTop += place() - before;
    top.current = element.scrollTop;
  };
  const onKey = (event: KeyboardEvent<HTMLElement>): void => {
    const heads = [...event.currentTarget.querySelectorAll<HTMLElement>("[data-line]")];
    const from = heads.findIndex((head) => head === document.activeElement);
    const to = { ArrowUp: from - 1, ArrowDown: from + 1, Home: 0, End: heads.length - 1 }[event.key];
    const head = to === undefined || from < 0 ? undefined : heads[Math.max(0, Math.min(to, heads.length - 1))];
    if (!head) return;
    event.preventDefault();
    onHold();
    setCurrent(Number(head.parentElement?.dataset.seq));
    head.focus();
  };
  return (
    <div className="eventslog" ref={box} onScroll={onScroll} role="log" aria-live="off" aria-label="Events. Arrow keys go from one to the next, Enter opens it." data-testid="events-log">
      <div>
        {first > 0 ? (
          <Button variant="subtle" color="gray" size="compact-xs" fullWidth leftSection={<ArrowUp size={13} />} onClick={() => move(STEP)} data-testid="events-earlier">
            Earlier ({first})
          </Button>
        ) : null}
        {/* eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- arrow keys between the buttons in it */}
        <ol onKeyDown={onKey} onFocus={(event) => event.target.matches(":focus-visible") && onHold()}>
          {drawn.map((row) =>
            row.is === "hole" ? (
              <HoleLine key={`hole-${row.seq}`} row={row} />
            ) : (
              <EventLine key={row.seq} row={row} open={opened.has(row.seq)} current={row.seq === at} onToggle={toggle} onCopy={onCopy} />
            ),
          )}
        </ol>
        {skipped > 0 ? (
          <Button variant="subtle" color="gray" size="compact-xs" fullWidth leftSection={<ArrowDown size={13} />} onClick={() => move(-STEP)} data-testid="events-later">
            Later ({skipped})
          </Button>
        ) : held && fresh > 0 ? (
          <Button variant="subtle" color="gray" size="compact-xs" fullWidth leftSection={<ArrowDown size={13} />} onClick={onFollow} data-testid="events-follow">
            Follow ({fresh} new)
          </Button>
        ) : null}
      </div>
    </div>
  );
}
