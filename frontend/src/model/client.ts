/** Joins socket and store: frames in, prompts out. The only place that changes the store. */
import type { ServerFrame } from "../protocol/frames.ts";
import { ChatSocket } from "../net/socket.ts";
import { emptyLive, foldFrames } from "./feed.ts";
import { HttpError, sayError } from "../net/http.ts";
import type { Outgoing, Picture, Store } from "./store.ts";

/** A hidden tab gets no animation frames; it folds at this pace. */
const HIDDEN_PACE_MS = 250;
/** Sessions kept in memory after one looked at them; the oldest are read again when needed. */
const KEPT_SESSIONS = 8;

export class Client {
  readonly socket: ChatSocket;
  private waiting: ServerFrame[] = [];
  private scheduled = false;
  private notices = 0;

  constructor(
    readonly store: Store,
    url: string,
    onDoubt: () => void,
    private readonly onChange: (chatIds: readonly string[]) => void,
    private readonly makeJob: (one: Outgoing) => Promise<unknown>,
  ) {
    this.socket = new ChatSocket({
      url,
      cursor: (chatId) => {
        const view = this.store.getState().lives.get(chatId)?.view;
        return view?.epoch ? { after: view.head, epoch: view.epoch } : { after: 0 };
      },
      onFrame: (frame) => this.take(frame),
      onConnection: (connection, detail) => store.setState(detail ? { connection, detail } : { connection }),
      onDoubt,
      onOpen: () => this.resend(),
    });
  }

  follow(chatId: string): () => void {
    this.store.setState(({ lives }) => {
      const live = lives.get(chatId) ?? emptyLive();
      const kept = [...lives].filter(([id]) => id !== chatId).slice(-(KEPT_SESSIONS - 1));
      return { lives: new Map([...kept, [chatId, live]]) };
    });
    return this.socket.follow(chatId);
  }

  prompt(chatId: string, message: string, how: { steer?: boolean; permissionMode?: string; pictures?: readonly Picture[] } = {}): void {
    const outgoing: Outgoing = { id: crypto.randomUUID(), chatId, message, steer: how.steer ?? false };
    if (how.permissionMode) outgoing.permissionMode = how.permissionMode;
    if (how.pictures?.length) outgoing.pictures = how.pictures;
    this.store.setState((state) => ({ outgoing: [...state.outgoing, outgoing] }));
    this.post(outgoing);
  }

  /** Takes back a prompt that was refused. */
  forget(id: string): void {
    this.store.setState((state) => ({ outgoing: state.outgoing.filter((one) => one.id !== id) }));
  }

  interrupt(chatId: string): void {
    if (!this.socket.send({ type: "interrupt", chatId })) this.say("Not connected: the interrupt was not sent.");
  }

  setMode(chatId: string, mode: string): void {
    if (!this.socket.send({ type: "set_mode", chatId, mode })) this.say("Not connected: the mode was not changed.");
  }

  say(text: string): void {
    this.notices += 1;
    this.store.setState({ notice: { id: this.notices, text } });
  }

  /** Forgets everything: somebody signed out. */
  reset(): void {
    this.socket.stop();
    this.waiting = [];
    this.store.setState({ lives: new Map(), outgoing: [] });
  }

  private post(one: Outgoing): void {
    if (one.pictures) return this.submit(one);
    const { id, chatId, message, steer, permissionMode } = one;
    this.socket.send({
      type: "chat",
      chatId,
      message,
      clientMessageId: id,
      ...(steer ? { steer } : {}),
      ...(permissionMode ? { permissionMode } : {}),
    });
  }

  /** Pictures are too much for one message of the socket. Without an answer it goes out again after a reconnect. */
  private submit(one: Outgoing): void {
    this.makeJob(one).catch((error: unknown) => {
      const refused = error instanceof HttpError && error.status >= 400 && error.status < 500;
      if (refused) this.refuse({ ref: one.id, code: error.code, message: error.message });
      else if (this.store.getState().connection === "open") this.refuse({ ref: one.id, code: "unavailable", message: sayError(error) });
    });
  }

  /** The same `clientMessageId` twice is harmless, so whatever the log has not confirmed goes out again. */
  private resend(): void {
    for (const one of this.store.getState().outgoing) if (!one.rejected) this.post(one);
  }

  private take(frame: ServerFrame): void {
    if (frame.is === "control" && frame.frame.type === "rejected") return this.refuse(frame.frame);
    this.waiting.push(frame);
    if (this.scheduled) return;
    this.scheduled = true;
    if (document.hidden) setTimeout(() => this.flush(), HIDDEN_PACE_MS);
    else requestAnimationFrame(() => this.flush());
  }

  private flush(): void {
    this.scheduled = false;
    const frames = this.waiting;
    this.waiting = [];
    const { lives: before, outgoing } = this.store.getState();
    const lives = foldFrames(before, frames);
    const sent = new Set<string>();
    for (const frame of frames)
      if (frame.is === "event" && frame.event.type === "chat" && frame.event.clientMessageId)
        sent.add(frame.event.clientMessageId);
    const left = outgoing.filter((one) => !sent.has(one.id));
    this.store.setState({ lives, outgoing: left.length === outgoing.length ? outgoing : left });
    for (const [chatId, live] of lives) if (live.view.hole && !before.get(chatId)?.view.hole) this.socket.resume(chatId);
    this.onChange(landmarks(frames));
  }

  private refuse(frame: { ref?: string; code: string; message: string }): void {
    const { outgoing } = this.store.getState();
    if (!outgoing.some((one) => one.id === frame.ref)) return this.say(frame.message);
    const rejected = frame.message || frame.code;
    this.store.setState({ outgoing: outgoing.map((one) => (one.id === frame.ref ? { ...one, rejected } : one)) });
  }
}

const LANDMARKS = new Set<string>([
  "session", "job_started", "complete", "approval_required", "approval_resolved", "question", "question_answered",
]);

/** Sessions whose line in the list may have changed. */
function landmarks(frames: readonly ServerFrame[]): string[] {
  const ids = frames.map((frame) => (frame.is === "event" && LANDMARKS.has(frame.event.type) ? frame.chatId : ""));
  return [...new Set(ids)].filter((id) => id !== "");
}
