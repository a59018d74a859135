// @vitest-environment jsdom
import { MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { act, cleanup, render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { Contact, Network } from "../../net/api.ts";
import { connectionOf } from "../../ui/input.ts";

const changeEgress = vi.fn((...asked: [id: string, body: unknown]) => Promise.resolve(asked));
vi.mock("../../wiring.ts", async () => {
  const { QueryClient } = await import("@tanstack/react-query");
  return { api: { changeEgress, networkStreamUrl: (id: string) => `/stream/${id}` }, queries: new QueryClient() };
});
const { NetworkPanel } = await import("./NetworkPanel.tsx");
const { merge } = await import("./live.ts");
const { domainsOf } = await import("./words.ts");
const { queries } = await import("../../wiring.ts");

class Stream {
  static readonly CLOSED = 2;
  static last: Stream;
  onmessage?: (message: { data: string }) => void;
  onerror?: () => void;
  readyState = 1;
  closed = false;
  constructor(readonly url: string) {
    Stream.last = this;
  }
  close(): void {
    this.closed = true;
  }
  say(network: Network): void {
    act(() => this.onmessage?.({ data: JSON.stringify(network) }));
  }
}

const contact = (over: Partial<Contact> = {}): Contact => ({
  host: "pypi.org", port: 443, verdict: "allowed", reason: "listed", count: 1, first: "2026-01-01T00:00:00.000Z", last: "2026-01-01T00:00:00.000Z", bytesIn: 0, bytesOut: 0, ...over,
});
const network = (...contacts: Contact[]): Network => ({ policy: "allow", domains: ["pypi.org"], contacts });

beforeEach(() => {
  vi.stubGlobal("EventSource", Stream);
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: vi.fn(), removeEventListener: vi.fn() }));
  vi.stubGlobal("ResizeObserver", class { observe() { /* no layout here */ } disconnect() { /* nor here */ } unobserve() { /* nor here */ } });
  Object.defineProperty(document, "fonts", { configurable: true, value: { addEventListener: vi.fn(), removeEventListener: vi.fn() } });
  changeEgress.mockClear();
});
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

function show(): void {
  render(
    <MantineProvider env="test">
      <QueryClientProvider client={queries}>
        <NetworkPanel id="s1" onClose={() => undefined} />
      </QueryClientProvider>
    </MantineProvider>,
  );
}

it("a change takes the place of the row it is about, and the newest stands first", () => {
  const later = contact({ count: 2, last: "2026-01-01T00:00:09.000Z" });
  const merged = merge(network(contact(), contact({ host: "b.org", last: "2026-01-01T00:00:05.000Z" })), network(later));
  expect(merged.contacts.map((one) => [one.host, one.count])).toEqual([["pypi.org", 2], ["b.org", 1]]);
  expect(merge(undefined, network(contact())).contacts).toHaveLength(1);
});

it("shows what comes live, and what is hidden in a name", () => {
  show();
  Stream.last.say(network(contact(), contact({ host: "evil\u202e.test", verdict: "refused", reason: "not_listed" })));
  const rows = screen.getAllByTestId("contact");
  expect(rows.map((row) => row.dataset.verdict)).toContain("refused");
  expect(screen.getByTestId("hidden-character").textContent).toBe("U+202E");
  Stream.last.say(network(contact({ host: "", port: 0, verdict: "refused", reason: "malformed", count: 3 })));
  expect(screen.getAllByTestId("contact")).toHaveLength(3);
  expect(screen.getByText(/not a proper request · 3 times/)).toBeTruthy();
});

it("can show the refused ones alone, by keyboard", async () => {
  show();
  Stream.last.say(network(contact(), contact({ host: "evil.test", verdict: "refused", reason: "denied" })));
  await vi.waitFor(() => expect(document.activeElement).not.toBe(document.body)); // the drawer takes it first
  screen.getByRole("radio", { name: "Refused (1)" }).focus();
  await userEvent.keyboard("[Space]");
  expect(screen.getAllByTestId("contact").map((row) => row.dataset.host)).toEqual(["evil.test"]);
});

it("changes the policy, and says why not", async () => {
  show();
  Stream.last.say(network());
  await userEvent.click(screen.getByTestId("change-policy"));
  await userEvent.type(screen.getByTestId("domains"), "\n*.example.org, pypi.org");
  changeEgress.mockImplementationOnce(() => Promise.reject(new Error("This credential lacks the scope 'approve'.")));
  await userEvent.click(screen.getByTestId("save-policy"));
  expect(changeEgress).toHaveBeenCalledWith("s1", { policy: "allow", domains: ["pypi.org", "*.example.org"] });
  expect((await screen.findByRole("alert")).textContent).toContain("lacks the scope");
  await userEvent.click(within(screen.getByTestId("policy")).getByRole("radio", { name: "Off" }));
  await userEvent.click(screen.getByTestId("save-policy"));
  expect(changeEgress).toHaveBeenLastCalledWith("s1", { policy: "off" });
});

it("says that it waits, and that it was refused", () => {
  show();
  Stream.last.say(network(contact()));
  act(() => Stream.last.onerror?.());
  expect(screen.getByText(/Connecting again/)).toBeTruthy();
  Stream.last.readyState = Stream.CLOSED;
  act(() => Stream.last.onerror?.());
  expect(screen.getByRole("alert").textContent).toContain("cannot be read");
  expect(screen.getAllByTestId("contact")).toHaveLength(1);
});

it("reads domains however they are set apart", () => {
  expect(domainsOf(" a.org,\n b.org  a.org ")).toEqual(["a.org", "b.org"]);
  expect(domainsOf("\n")).toEqual([]);
});

it("takes a connection for one only from the tool of that very name, in that very form", () => {
  expect(connectionOf("network", { host: "a.org", port: 443 })).toEqual({ host: "a.org", port: 443 });
  for (const [tool, input] of [
    ["Network", { host: "a.org", port: 443 }], ["nеtwork", { host: "a.org", port: 443 }], ["network", { host: "a.org" }],
    ["network", { host: "a.org", port: "443" }], ["network", { host: "a.org", port: 443, command: "rm" }], ["network", null],
  ] as const)
    expect(connectionOf(tool, input)).toBeUndefined();
});
