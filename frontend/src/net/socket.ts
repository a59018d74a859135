/**
 * The chat socket: one connection, come back by cursor and epoch. It owns no view: `cursor` asks the model where each
 * followed session stands, `onFrame` hands over what arrived.
 */
import { decodeFrame } from "../protocol/frames.ts";
import type { ClientFrame, ServerFrame } from "../protocol/frames.ts";
import { afterClose, backoff } from "./closing.ts";

export type Connection = "connecting" | "open" | "waiting" | "offline" | "refused";

export interface SocketHost {
  url: string;
  cursor: (chatId: string) => { after: number; epoch?: string };
  onFrame: (frame: ServerFrame) => void;
  onConnection: (state: Connection, detail?: string) => void;
  /** The server says we are nobody, or it has refused the handshake twice: ask it who we are. */
  onDoubt: () => void;
  /** The connection is up and the followed sessions are asked for: what was not confirmed may be sent again. */
  onOpen: () => void;
}

/** We ask for a sign of life at this silence; a browser does not see the server's own pings. */
const PING_AFTER_MS = 20_000;
const DEAD_AFTER_MS = 45_000;
const HANDSHAKE_MS = 10_000;

export class ChatSocket {
  private socket: WebSocket | undefined;
  private attempt = 0;
  private heard = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private pulse: ReturnType<typeof setInterval> | undefined;
  private stopped = true;
  private readonly followed = new Map<string, number>();

  constructor(private readonly host: SocketHost) {}

  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    this.attempt = 0;
    this.pulse = setInterval(() => this.beat(), 5_000);
    this.open();
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    clearInterval(this.pulse);
    const socket = this.socket;
    this.socket = undefined;
    socket?.close(1000);
    this.host.onConnection("offline");
  }

  /** Somebody came back to the page, or the network did: do not wait for the timer. */
  hurry(): void {
    if (this.stopped || this.socket) return;
    clearTimeout(this.timer);
    this.attempt = 0;
    this.open();
  }

  /** Follows a session; the answer stops it. Several followers share one subscription. */
  follow(chatId: string): () => void {
    const followers = this.followed.get(chatId) ?? 0;
    this.followed.set(chatId, followers + 1);
    if (followers === 0) this.subscribe(chatId);
    return () => {
      const left = (this.followed.get(chatId) ?? 1) - 1;
      if (left > 0) this.followed.set(chatId, left);
      else if (this.followed.delete(chatId)) this.send({ type: "unsubscribe", chatId });
    };
  }

  /** Asks for a session again from its cursor (a hole was seen). */
  resume(chatId: string): void {
    if (!this.followed.has(chatId)) return;
    this.send({ type: "unsubscribe", chatId });
    this.subscribe(chatId);
  }

  send(frame: ClientFrame): boolean {
    if (this.socket?.readyState !== 1) return false;
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  private subscribe(chatId: string): void {
    this.send({ type: "subscribe", chatId, ...this.host.cursor(chatId) });
  }

  private open(): void {
    this.host.onConnection("connecting");
    const socket = new WebSocket(this.host.url);
    this.socket = socket;
    this.heard = Date.now();
    let opened = false;
    const impatience = setTimeout(() => opened || this.lost(socket, 1006, false), HANDSHAKE_MS);
    socket.onopen = () => {
      if (this.socket !== socket) return;
      opened = true;
      this.attempt = 0;
      this.heard = Date.now();
      this.host.onConnection("open");
      for (const chatId of this.followed.keys()) this.subscribe(chatId);
      this.host.onOpen();
    };
    socket.onmessage = (message: MessageEvent<unknown>) => {
      if (this.socket !== socket) return;
      this.heard = Date.now();
      if (typeof message.data === "string") this.receive(message.data);
    };
    socket.onclose = (event) => {
      clearTimeout(impatience);
      this.lost(socket, event.code, opened);
    };
  }

  private receive(data: string): void {
    const frame = decodeFrame(data);
    if (frame.is === "bad") console.warn("chat socket: a frame could not be read:", frame.why);
    else if (frame.is !== "control" || frame.frame.type !== "pong") this.host.onFrame(frame);
  }

  private lost(socket: WebSocket, code: number, opened: boolean): void {
    if (this.socket !== socket || this.stopped) return;
    this.socket = undefined;
    socket.close();
    const next = afterClose(code);
    if (next === "signin") this.host.onDoubt();
    if (next !== "again") {
      this.host.onConnection("refused", `The server closed the connection (${code}).`);
      return;
    }
    this.attempt += 1;
    if (!opened && this.attempt % 2 === 0) this.host.onDoubt();
    this.host.onConnection("waiting");
    this.timer = setTimeout(() => this.open(), backoff(this.attempt - 1, Math.random()));
  }

  private beat(): void {
    const { socket } = this;
    if (socket?.readyState !== 1) return;
    const silence = Date.now() - this.heard;
    if (silence > DEAD_AFTER_MS) this.lost(socket, 1006, true);
    else if (silence > PING_AFTER_MS) this.send({ type: "ping" });
  }
}
