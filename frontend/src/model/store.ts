/** What the page knows from the socket. Lists that HTTP answers live in TanStack Query, not here. */
import { createStore } from "zustand/vanilla";
import type { Connection } from "../net/socket.ts";
import type { Live } from "./feed.ts";

/** A picture that goes with a prompt; `data` is base64. */
export interface Picture {
  name: string;
  mediaType: string;
  size: number;
  data: string;
}

/** A prompt that was sent and is not in the log yet. */
export interface Outgoing {
  id: string;
  chatId: string;
  message: string;
  steer: boolean;
  permissionMode?: string;
  pictures?: readonly Picture[];
  rejected?: string;
}

export interface State {
  connection: Connection;
  detail?: string;
  lives: ReadonlyMap<string, Live>;
  outgoing: readonly Outgoing[];
  /** The last refusal that belongs to no prompt, said once. */
  notice?: { id: number; text: string };
}

export const makeStore = () =>
  createStore<State>(() => ({ connection: "offline", lives: new Map(), outgoing: [] }));

export type Store = ReturnType<typeof makeStore>;
