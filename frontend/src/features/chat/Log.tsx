import { Button, Loader } from "@mantine/core";
import { ArrowDown, History } from "lucide-react";
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";
import { useLiveState } from "../../model/hooks.ts";
import type { Live } from "../../model/feed.ts";
import { PendingPrompt } from "./Prompt.tsx";
import { Row } from "./Row.tsx";

/** Rows drawn at first; the reader goes back by as many. */
const WINDOW = 150;
/** This near the end counts as being there. */
const NEAR_PX = 60;

export function Log({ id, live }: { id: string; live: Live }) {
  const { order } = live.view;
  const [shown, setShown] = useState(WINDOW);
  const scroller = useRef<HTMLDivElement>(null);
  const rows = useRef<HTMLDivElement>(null);
  const { atEnd, follow, onScroll } = useAutoscroll(scroller, rows);
  const outgoing = useLiveState((state) => state.outgoing).filter((one) => one.chatId === id);
  const first = Math.max(0, order.length - shown);

  // Going back keeps what is being read in its place.
  const keep = useRef<number | undefined>(undefined);
  const earlier = (): void => {
    const box = scroller.current;
    keep.current = box ? box.scrollHeight - box.scrollTop : undefined;
    setShown((n) => n + WINDOW);
  };
  useLayoutEffect(() => {
    const box = scroller.current;
    if (box && keep.current !== undefined) box.scrollTop = box.scrollHeight - keep.current;
    keep.current = undefined;
  }, [shown]);

  const sent = outgoing.length;
  useEffect(() => {
    if (sent > 0) follow();
  }, [sent, follow]);

  return (
    <>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls, so the keyboard must reach it */}
      <div className="scroller" ref={scroller} onScroll={onScroll} tabIndex={0} role="log" aria-live="off" aria-label="Log of the session" data-testid="log" data-head={live.view.head}>
        <div className="rows" ref={rows}>
          {first > 0 ? (
            <Button variant="subtle" color="gray" size="xs" leftSection={<History size={14} />} onClick={earlier} data-testid="earlier">
              Show earlier ({first})
            </Button>
          ) : null}
          {order.slice(first).map((key) => (
            <Row key={key} chatId={id} item={key} />
          ))}
          {outgoing.map((one) => (
            <PendingPrompt key={one.id} one={one} />
          ))}
          {live.running ? <Working live={live} /> : null}
        </div>
      </div>
      <div style={{ position: "relative" }}>
        {atEnd ? null : (
          <Button className="jump" size="compact-sm" radius="xl" variant="default" leftSection={<ArrowDown size={14} />} onClick={follow} data-testid="jump-latest">
            Jump to latest
          </Button>
        )}
      </div>
    </>
  );
}

function Working({ live }: { live: Live }) {
  const waits = live.view.pendingApprovals.length + live.view.pendingQuestions.length > 0;
  return (
    <div className="working" data-testid="working">
      {waits ? null : <Loader size={14} type="dots" />}
      {waits ? "Waiting for you" : live.view.queued.length > 0 ? "Working; another prompt is queued" : "Working…"}
    </div>
  );
}

/** Follows the end until the reader scrolls up, and again when they come back down. */
function useAutoscroll(scroller: React.RefObject<HTMLDivElement | null>, rows: React.RefObject<HTMLDivElement | null>) {
  const [atEnd, setAtEnd] = useState(true);
  const sticky = useRef(true);
  const top = useRef(0);
  const stick = useCallback(() => {
    const box = scroller.current;
    if (box && sticky.current) box.scrollTop = box.scrollHeight;
  }, [scroller]);
  useEffect(() => {
    const observer = new ResizeObserver(stick);
    if (rows.current) observer.observe(rows.current);
    if (scroller.current) observer.observe(scroller.current);
    return () => observer.disconnect();
  }, [rows, scroller, stick]);
  const onScroll = useCallback(() => {
    const box = scroller.current;
    if (!box) return;
    const near = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
    // Only a movement upwards is the reader's; growth of the content moves nothing up.
    if (near) sticky.current = true;
    else if (box.scrollTop < top.current - 2) sticky.current = false;
    top.current = box.scrollTop;
    setAtEnd(near || sticky.current);
  }, [scroller]);
  const follow = useCallback(() => {
    sticky.current = true;
    setAtEnd(true);
    stick();
  }, [stick]);
  return { atEnd, follow, onScroll };
}
