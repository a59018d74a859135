/** Frames of the socket into views, one batch per animation frame, so that a flood of events costs few renders. */
import type { ControlFrame, Entry, ServerFrame, Subscribed } from "../protocol/frames.ts";
import { fold, foldGap } from "../protocol/fold.ts";
import { emptyView } from "../protocol/view.ts";
import type { SessionView } from "../protocol/view.ts";

export interface Live {
  view: SessionView;
  running: boolean;
  caughtUp: boolean;
  viewers: number;
  /** The highest `seq` known to exist, for the progress of a long catch-up. */
  target: number;
}

export const emptyLive = (): Live => ({ view: emptyView(), running: false, caughtUp: false, viewers: 0, target: 0 });

type Change = { chatId: string; frame: ControlFrame } | { chatId: string; event: Entry };

/** All that arrived since the last batch, folded in order. Pure. */
export function foldFrames(lives: ReadonlyMap<string, Live>, frames: readonly ServerFrame[]): Map<string, Live> {
  const next = new Map(lives);
  const run: { chatId: string; events: Entry[] } = { chatId: "", events: [] };
  const flush = (): void => {
    const live = next.get(run.chatId);
    if (live && run.events.length > 0) next.set(run.chatId, withEvents(live, run.events));
    run.events = [];
  };
  for (const change of frames.flatMap(asChange)) {
    if ("event" in change) {
      if (change.chatId !== run.chatId) flush();
      run.chatId = change.chatId;
      run.events.push(change.event);
      continue;
    }
    flush();
    const live = next.get(change.chatId);
    if (live) next.set(change.chatId, withControl(live, change.frame));
  }
  flush();
  return next;
}

function asChange(frame: ServerFrame): Change[] {
  if (frame.is === "event") return [{ chatId: frame.chatId, event: frame.event }];
  return "chatId" in frame.frame ? [{ chatId: frame.frame.chatId, frame: frame.frame }] : [];
}

function withEvents(live: Live, events: readonly Entry[]): Live {
  // Up to the head that `subscribed` named, its own `running` is the newer knowledge.
  let { running } = live;
  for (const event of events)
    if (event.seq > live.target && (event.type === "job_started" || event.type === "complete"))
      running = event.type === "job_started";
  return { ...live, view: fold(live.view, events), running };
}

function withControl(live: Live, frame: ControlFrame): Live {
  switch (frame.type) {
    case "subscribed":
      return withSubscribed(live, frame);
    case "caught_up":
      return { ...live, caughtUp: true };
    case "viewers":
      return { ...live, viewers: frame.viewers };
    case "gap":
      return { ...live, view: foldGap(live.view, frame.from, frame.to) };
    default:
      return live;
  }
}

/** Another epoch is another log: what was shown belongs to the old one and goes. */
function withSubscribed(live: Live, frame: Subscribed): Live {
  const known = live.view.epoch === frame.epoch && live.view.head <= frame.head && !frame.gap;
  let view: SessionView = known ? { ...live.view, hole: false } : emptyView(frame.epoch);
  if (!known && frame.oldest > 1) view = foldGap(view, 1, frame.oldest - 1);
  return { view, running: frame.running, caughtUp: false, viewers: frame.viewers, target: frame.head };
}
