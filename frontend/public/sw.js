/* Shows what the server pushes, and leads to the session. It fetches and keeps nothing. */

const text = (value, usual) => (typeof value === "string" && value !== "" ? value : usual);

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("push", (event) => {
  let said = {};
  try {
    said = event.data?.json() ?? {};
  } catch {
    // What cannot be read is announced all the same: a browser takes the right away from who stays silent.
  }
  const shown = self.registration.showNotification(text(said.title, "Pilothouse"), {
    body: text(said.body, ""),
    tag: text(said.tag, "pilothouse"),
    renotify: true,
    icon: "favicon.svg",
    data: { path: text(said.path, "") },
  });
  event.waitUntil(shown);
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data?.path ?? ""));
});

/** A page of ours that is open goes there; else a new one is opened. Never another site's address. */
async function open(path) {
  const home = self.registration.scope;
  const target = /^#\/[\w/-]{0,200}$/.test(path) ? new URL(path, home).href : home;
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const page = pages.find((one) => one.url.startsWith(home));
  if (page === undefined) return void (await self.clients.openWindow(target));
  await page.focus();
  page.postMessage({ goto: path });
}
