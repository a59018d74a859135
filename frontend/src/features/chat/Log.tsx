import { Button, Loader } from "@mantine/core";
import { ArrowDown, History } from "lucide-react";
import { useState } from "react";
import { flushSync } from "react-dom";
import { useLiveState } from "../../model/hooks.ts";
import type { Live } from "../../model/feed.ts";
import { useRights } from "../sharing/rights.ts";
import { useEndFollower } from "./autoscroll.ts";
import { PendingPrompt } from "./Prompt.tsx";
import { Row } from "./Row.tsx";

/** Rows drawn at first; the reader goes back by as many. */
const WINDOW = 150;

export function Log({ id, live }: { id: string; live: Live }) {
  const { order } = live.view;
  const [shown, setShown] = useState(WINDOW);
  const outgoing = useLiveState((state) => state.outgoing).filter((one) => one.chatId === id);
  const { atEnd, attach, scrolled, follow, keepPlace } = useEndFollower(outgoing.length);
  const first = Math.max(0, order.length - shown);
  const earlier = (): void => keepPlace(() => flushSync(() => setShown((n) => n + WINDOW)));

  return (
    <>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls, so the keyboard must reach it */}
      <div className="scroller" ref={attach} onScroll={scrolled} tabIndex={0} role="log" aria-live="off" aria-label="Log of the session" data-testid="log" data-head={live.view.head}>
        <div className="rows">
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
  const mine = useRights().includes("approve");
  const waits = live.view.pendingApprovals.length + live.view.pendingQuestions.length > 0;
  return (
    <div className="working" data-testid="working">
      {waits ? null : <Loader size={14} type="dots" />}
      {waits ? (mine ? "Waiting for you" : "Waiting for an answer") : live.view.queued.length > 0 ? "Working; another prompt is queued" : "Working…"}
    </div>
  );
}
