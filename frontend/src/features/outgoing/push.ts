/** Web push in this browser: the service worker, the subscription, and why there is none. */
import type { NotifierWish } from "../../net/outgoing.ts";

export type Push = "on" | "off" | "denied" | "unsupported" | "insecure";

export const WHY: Record<Exclude<Push, "on" | "off">, string> = {
  denied: "This browser refuses notifications of this page. Allow them in its settings for the site.",
  unsupported: "This browser has no web push.",
  insecure: "Web push needs https, or a page on this very machine.",
};

const able = (): boolean => "serviceWorker" in navigator && "PushManager" in window && "Notification" in window;

async function subscription(): Promise<PushSubscription | null> {
  const worker = await navigator.serviceWorker.getRegistration();
  return (await worker?.pushManager.getSubscription()) ?? null;
}

export async function pushState(): Promise<Push> {
  if (!window.isSecureContext) return "insecure";
  if (!able()) return "unsupported";
  if (Notification.permission === "denied") return "denied";
  return (await subscription()) === null ? "off" : "on";
}

/** Asks the person. What the server has to know, or an error that says why not. */
export async function subscribe(publicKey: string): Promise<NotifierWish> {
  if ((await Notification.requestPermission()) !== "granted") throw new Error("The browser was not allowed to show notifications.");
  await navigator.serviceWorker.register("sw.js");
  const worker = await navigator.serviceWorker.ready;
  const before = await worker.pushManager.getSubscription();
  if (before !== null && !same(before.options.applicationServerKey, publicKey)) await before.unsubscribe();
  const made = await worker.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytes(publicKey) });
  return wish(made.toJSON());
}

export async function unsubscribe(): Promise<void> {
  if (able()) await (await subscription())?.unsubscribe();
}

export function wish({ endpoint, keys }: PushSubscriptionJSON): NotifierWish {
  const { p256dh, auth } = keys ?? {};
  if (endpoint === undefined || p256dh === undefined || auth === undefined) throw new Error("The browser gave no keys.");
  return { kind: "push", url: endpoint, keys: { p256dh, auth } };
}

/** base64url. */
export function bytes(text: string): Uint8Array<ArrayBuffer> {
  const raw = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(raw, (one) => one.charCodeAt(0));
}

function same(known: ArrayBuffer | null, text: string): boolean {
  if (known === null) return false;
  const [one, other] = [new Uint8Array(known), bytes(text)];
  return one.length === other.length && one.every((byte, i) => byte === other[i]);
}

/** Where a notification leads, when it is clicked. Only to places of this page. */
export function followNotifications(go: (hash: string) => void): void {
  if (!("serviceWorker" in navigator)) return;
  navigator.serviceWorker.addEventListener("message", (event: MessageEvent<{ goto?: unknown } | null>) => {
    const path = event.data?.goto;
    if (typeof path === "string" && /^#\/[\w/-]{0,200}$/.test(path)) go(path);
  });
}
