// @vitest-environment jsdom
import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { AuditRecord } from "../../net/api.ts";

interface Asked {
  action: string;
  who: string;
  before: number;
}
const audit = vi.fn<(asked: Asked) => Promise<{ items: AuditRecord[]; next: number | null }>>();
vi.mock("../../wiring.ts", () => ({ api: { audit } }));
const { Audit } = await import("./Audit.tsx");

const record = (over: Partial<AuditRecord> = {}): AuditRecord => ({
  seq: 1, at: "2026-01-01T00:00:00.000Z", actor: { kind: "person", id: "ann", name: "ann" }, action: "key.create", object: "key:k1", address: "192.0.2.7", outcome: "ok", details: {}, ...over,
});

beforeEach(() => {
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: vi.fn(), removeEventListener: vi.fn() }));
  vi.stubGlobal("ResizeObserver", class { observe() { /* no layout here */ } disconnect() { /* nor here */ } unobserve() { /* nor here */ } });
  audit.mockReset();
});
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

function show(): void {
  render(
    <MantineProvider env="test">
      <QueryClientProvider client={new QueryClient({ defaultOptions: { queries: { retry: false } } })}>
        <Audit />
      </QueryClientProvider>
    </MantineProvider>,
  );
}

it("says who did what to which thing and from where, and shows hidden characters", async () => {
  audit.mockResolvedValue({
    items: [
      record({ details: { name: "c\u202ei", scopes: ["read", "run"] } }),
      record({ seq: 2, action: "session.stop", object: "session:s-1", actor: { kind: "key", id: "k", name: "ci" } }),
      record({ seq: 3, action: "signin", outcome: "refused", object: "", actor: { kind: "nobody", id: "", name: "" } }),
      record({ seq: 4, action: "something.new", address: "", actor: { kind: "server", id: "", name: "" } }),
    ],
    next: null,
  });
  show();
  const [made, stopped, failed, other] = await screen.findAllByTestId("audit-row");
  expect(made?.textContent).toContain("ann");
  expect(made?.textContent).toContain("Made a key");
  expect(made?.textContent).toContain("192.0.2.7");
  expect(made?.textContent).toContain("scopes: read, run");
  expect(within(made ?? document.body).getByTestId("hidden-character")).toBeTruthy();
  expect(stopped?.textContent).toContain("ci (API key)");
  expect(within(stopped ?? document.body).getByRole("link").getAttribute("href")).toBe("#/s/s-1");
  expect(failed?.textContent).toContain("somebody unknown");
  expect(failed?.textContent).toContain("Failed to sign in");
  expect(failed?.textContent).toContain("refused");
  expect(other?.textContent).toContain("something.new");
  expect(screen.getByRole("status").textContent).toBe("4 records");
});

it("filters on the server and goes on from where a page ended", async () => {
  const user = userEvent.setup();
  audit.mockResolvedValueOnce({ items: [record({ seq: 9 })], next: 9 });
  audit.mockResolvedValueOnce({ items: [record({ seq: 8 })], next: null });
  show();
  await user.click(await screen.findByRole("button", { name: "Show older ones" }));
  expect(await screen.findAllByTestId("audit-row")).toHaveLength(2);
  expect(audit.mock.calls.map(([asked]) => asked.before)).toEqual([0, 9]);
  expect(screen.queryByTestId("audit-more")).toBeNull();
  audit.mockResolvedValue({ items: [], next: 5 });
  await user.selectOptions(screen.getByRole("combobox", { name: "What" }), "Approvals");
  await user.type(screen.getByRole("textbox", { name: "Name or address" }), " bob ");
  expect(await screen.findByRole("button", { name: "Look further back" })).toBeTruthy();
  await vi.waitFor(() => expect(audit).toHaveBeenLastCalledWith({ action: "approval.", who: "bob", before: 0 }, expect.anything()));
  await vi.waitFor(() => expect(screen.getByTestId("audit-count").textContent).toBe("None among the newest."));
});

it("says what went wrong", async () => {
  audit.mockRejectedValue(new Error("This credential lacks the scope 'admin'."));
  show();
  expect((await screen.findByRole("alert")).textContent).toContain("lacks the scope");
});
