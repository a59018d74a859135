// @vitest-environment jsdom
import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { HttpError } from "../../net/http.ts";
import type { Delivery, Notifier, Webhook } from "../../net/outgoing.ts";

const api = {
  webhooks: vi.fn<() => Promise<{ items: Webhook[] }>>(),
  makeWebhook: vi.fn<(body: { url: string; name: string; events: string[] }) => Promise<Webhook & { secret: string }>>(),
  webhookDeliveries: vi.fn<() => Promise<{ items: Delivery[] }>>(),
  replay: vi.fn<(one: string, delivery: string) => Promise<Delivery>>(),
  pingWebhook: vi.fn<(one: string) => Promise<Delivery>>(),
  notifiers: vi.fn<() => Promise<{ items: Notifier[] }>>(),
  makeNotifier: vi.fn<() => Promise<Notifier>>(),
  changeNotifier: vi.fn<(one: string, change: object) => Promise<Notifier>>(),
};
vi.mock("../../wiring.ts", () => ({ api, client: {}, queries: {} }));
const { Webhooks } = await import("./Webhooks.tsx");
const { Notifications } = await import("./Notifications.tsx");
const { troubled, went } = await import("./words.ts");
const { bytes, followNotifications, wish } = await import("./push.ts");

const AT = "2026-01-01T00:00:00.000Z";
const delivery = (over: Partial<Delivery> = {}): Delivery => ({ id: "msg_1", type: "ping", state: "delivered", attempts: 1, createdAt: AT, lastAttemptAt: AT, ...over });
const webhook = (over: Partial<Webhook> = {}): Webhook => ({ id: "w1", name: "ci", url: "https://ci.example/x", events: ["job.completed"], enabled: true, pending: 0, dead: 0, ...over });
const notifier = (over: Partial<Notifier> = {}): Notifier => ({ id: "n1", kind: "slack", name: "Slack", to: "https://hooks.slack.com", events: ["approval"], sessions: "own", enabled: true, current: false, ...over });

beforeEach(() => {
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: vi.fn(), removeEventListener: vi.fn() }));
  vi.stubGlobal("ResizeObserver", class { observe() { /* no layout here */ } disconnect() { /* nor here */ } unobserve() { /* nor here */ } });
  vi.resetAllMocks();
  api.webhooks.mockResolvedValue({ items: [webhook({ dead: 1, last: delivery({ state: "dead", error: "It answered 500." }) })] });
  api.webhookDeliveries.mockResolvedValue({ items: [delivery({ state: "dead", error: "It answered 500." })] });
  api.notifiers.mockResolvedValue({ items: [notifier({ last: delivery({ state: "dead", error: "It answered 403." }) })] });
});
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

function show(view: React.ReactNode): void {
  const queries = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  render(
    <MantineProvider env="test">
      <QueryClientProvider client={queries}>{view}</QueryClientProvider>
    </MantineProvider>,
  );
}

it("never says delivered of what was not", () => {
  const now = Date.parse(AT);
  expect(went(undefined)).toBe("nothing sent yet");
  expect(went(delivery(), now)).toBe("delivered now");
  expect(went(delivery({ state: "dead", error: "It answered 410." }))).toBe("not delivered: It answered 410.");
  expect(went(delivery({ state: "withheld", error: "It was answered meanwhile." }))).toBe("not sent: It was answered meanwhile.");
  expect(went(delivery({ state: "pending", attempts: 0 }))).toBe("on its way");
  expect(went(delivery({ state: "pending", attempts: 2, error: "It answered 500.", nextAttemptAt: AT }), now)).toBe("failed 2 times: It answered 500. Next try now.");
  expect([delivery(), delivery({ state: "dead" }), delivery({ state: "pending", attempts: 0 }), delivery({ state: "pending" })].map((one) => troubled(one))).toEqual([false, true, false, true]);
});

it("shows a webhook's secret once, and a dead letter that can be sent again", async () => {
  const user = userEvent.setup();
  show(<Webhooks />);
  expect(await screen.findByTestId("webhook-went")).toHaveProperty("textContent", "Last: not delivered: It answered 500. 1 given up.");
  api.makeWebhook.mockResolvedValue({ ...webhook(), secret: "whsec_abc" });
  await user.type(screen.getByLabelText("Address"), "https://ci.example/x");
  await user.click(screen.getByLabelText("a budget is spent"));
  await user.click(screen.getByRole("button", { name: "Create" }));
  expect(api.makeWebhook).toHaveBeenCalledWith({ url: "https://ci.example/x", name: "webhook", events: ["job.completed", "approval.required"] });
  expect((await screen.findByTestId("webhook-secret")).textContent).toBe("whsec_abc");
  await user.click(screen.getByRole("button", { name: "Close" }));
  expect(screen.queryByTestId("webhook-secret")).toBeNull();
  const button = screen.getByRole("button", { name: "Deliveries of ci" });
  expect(button.getAttribute("aria-expanded")).toBe("false");
  await user.click(button);
  const list = await screen.findByRole("list", { name: "Deliveries of ci" });
  await user.click(await within(list).findByTestId("replay"));
  expect(api.replay).toHaveBeenCalledWith("w1", "msg_1");
});

it("says the server's words about a bad address", async () => {
  const user = userEvent.setup();
  show(<Webhooks />);
  api.makeWebhook.mockRejectedValue(new HttpError(400, "bad_request", "url: no public address"));
  await user.type(await screen.findByLabelText("Address"), "https://10.0.0.1/");
  await user.click(screen.getByRole("button", { name: "Create" }));
  expect((await screen.findByRole("alert")).textContent).toContain("url: no public address");
});

it("says why there is no web push here, and what of the last notification became", async () => {
  const user = userEvent.setup();
  show(<Notifications />);
  expect((await screen.findByTestId("push-why")).textContent).toContain("https");
  expect((await screen.findByTestId("notifier-went")).textContent).toBe("Last: not delivered: It answered 403.");
  const only = screen.getByLabelText<HTMLInputElement>("an approval waits");
  expect(only.disabled).toBe(true);
  api.changeNotifier.mockResolvedValue(notifier());
  await user.click(screen.getByLabelText("a job has ended"));
  await waitFor(() => expect(api.changeNotifier).toHaveBeenCalledWith("n1", { events: ["approval", "job"] }));
});

it("gives the server what a browser subscribed with, and follows no notification to elsewhere", () => {
  expect(wish({ endpoint: "https://push.example/1", keys: { p256dh: "a", auth: "b" } })).toEqual({ kind: "push", url: "https://push.example/1", keys: { p256dh: "a", auth: "b" } });
  expect(() => wish({ endpoint: "https://push.example/1" })).toThrow("no keys");
  expect([...bytes("-_8A")]).toEqual([251, 255, 0]);
  const heard: ((event: { data: unknown }) => void)[] = [];
  vi.stubGlobal("navigator", { serviceWorker: { addEventListener: (_: string, call: (event: { data: unknown }) => void) => heard.push(call) } });
  const went: string[] = [];
  followNotifications((hash) => went.push(hash));
  for (const data of [{ goto: "#/s/abc-1" }, { goto: "https://evil.example" }, { goto: "javascript:alert(1)" }, { goto: 5 }, null, {}]) heard[0]?.({ data });
  expect(went).toEqual(["#/s/abc-1"]);
});
