/** The calls of `protocol/http.md` about webhooks and a person's notifications. */
import type { Http } from "./http.ts";

export interface Delivery {
  id: string;
  type: string;
  state: "pending" | "delivered" | "dead" | "withheld";
  attempts: number;
  createdAt: string;
  sessionId?: string;
  status?: number;
  error?: string;
  lastAttemptAt?: string;
  nextAttemptAt?: string;
}
export interface Webhook {
  id: string;
  name: string;
  url: string;
  events: string[];
  enabled: boolean;
  disabledBecause?: string;
  pending: number;
  dead: number;
  last?: Delivery;
}
export type Sessions = "own" | "all";
export interface Notifier {
  id: string;
  kind: "push" | "slack";
  name: string;
  to: string;
  events: string[];
  sessions: Sessions;
  enabled: boolean;
  disabledBecause?: string;
  current: boolean;
  last?: Delivery;
}
export interface NotifierWish {
  kind: "push" | "slack";
  url: string;
  keys?: { p256dh: string; auth: string };
  name?: string;
  events?: string[];
  sessions?: Sessions;
}
export interface NotifierChange {
  events?: string[];
  sessions?: Sessions;
  enabled?: boolean;
}

const id = encodeURIComponent;

export const makeOutgoing = (http: Http) => ({
  webhooks: (signal?: AbortSignal) => http.get<{ items: Webhook[] }>("api/webhooks", signal),
  makeWebhook: (body: { url: string; name: string; events: string[] }) => http.send<Webhook & { secret: string }>("POST", "api/webhooks", body),
  changeWebhook: (one: string, body: { enabled: boolean }) => http.send<Webhook>("PATCH", `api/webhooks/${id(one)}`, body),
  removeWebhook: (one: string) => http.send<undefined>("DELETE", `api/webhooks/${id(one)}`),
  rotateWebhook: (one: string) => http.send<Webhook & { secret: string }>("POST", `api/webhooks/${id(one)}/rotate`, {}),
  pingWebhook: (one: string) => http.send<Delivery>("POST", `api/webhooks/${id(one)}/ping`),
  webhookDeliveries: (one: string, state: string, signal?: AbortSignal) =>
    http.get<{ items: Delivery[] }>(`api/webhooks/${id(one)}/deliveries?limit=50&state=${id(state)}`, signal),
  replay: (one: string, delivery: string) => http.send<Delivery>("POST", `api/webhooks/${id(one)}/deliveries/${id(delivery)}/replay`),
  replayDead: (one: string) => http.send<{ replayed: number }>("POST", `api/webhooks/${id(one)}/replay`),
  notifiers: (signal?: AbortSignal) => http.get<{ items: Notifier[] }>("api/notifications", signal),
  pushKey: () => http.get<{ publicKey: string }>("api/notifications/key"),
  makeNotifier: (body: NotifierWish) => http.send<Notifier>("POST", "api/notifications", body),
  changeNotifier: (one: string, body: NotifierChange) => http.send<Notifier>("PATCH", `api/notifications/${id(one)}`, body),
  removeNotifier: (one: string) => http.send<undefined>("DELETE", `api/notifications/${id(one)}`),
  testNotifier: (one: string) => http.send<Delivery>("POST", `api/notifications/${id(one)}/test`),
});
