// @vitest-environment jsdom
import { MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { act, cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { EventOf } from "../../protocol/events.ts";

const decide = vi.fn(() => Promise.resolve({}));
const approval = vi.fn();
vi.mock("../../wiring.ts", async () => {
  const { QueryClient } = await import("@tanstack/react-query");
  return { api: { decide, approval }, queries: new QueryClient({ defaultOptions: { queries: { retry: false } } }) };
});
const { Pending } = await import("./Pending.tsx");
const { queries } = await import("../../wiring.ts");

type Asked = EventOf<"approval_required">;
const asked = (over: Partial<Asked> = {}): Asked => ({
  type: "approval_required", seq: 1, approvalId: "a1", toolId: "t1", tool: "Bash", inputHash: "h1", reason: "a command",
  input: { command: "rm\u200b -rf build" },
  options: [
    { id: "forever", label: "Always", outcome: "approved", scope: "project", rule: "Bash(rm:*)" },
    { id: "once", label: "Approve", outcome: "approved", scope: "once" },
    { id: "no", label: "Deny", outcome: "denied" },
  ],
  ...over,
});

function show(event: Asked): HTMLElement {
  render(
    <MantineProvider>
      <QueryClientProvider client={queries}>
        <Pending event={event} />
      </QueryClientProvider>
    </MantineProvider>,
  );
  return screen.getByTestId("approval-card");
}
const wait = (ms: number) => act(() => vi.advanceTimersByTimeAsync(ms));

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: vi.fn(), removeEventListener: vi.fn() }));
  vi.stubGlobal("ResizeObserver", class { observe() { /* no layout here */ } disconnect() { /* nor here */ } unobserve() { /* nor here */ } });
  Object.defineProperty(document, "fonts", { configurable: true, value: { addEventListener: vi.fn(), removeEventListener: vi.fn() } });
  decide.mockClear();
  queries.clear();
});
afterEach(() => {
  cleanup();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it("takes the focus and answers nothing by itself", async () => {
  const card = show(asked());
  await wait(1000);
  expect(document.activeElement).toBe(card);
  expect(decide).not.toHaveBeenCalled();
});

it("A approves once with the hash that was shown, never the remembered option", async () => {
  const card = show(asked());
  await wait(500);
  fireEvent.keyDown(card, { key: "a" });
  expect(decide).toHaveBeenCalledExactlyOnceWith("a1", { approved: true, inputHash: "h1", optionId: "once" });
});

it("no key counts in the grace after a card appeared", async () => {
  const card = show(asked());
  await wait(300);
  fireEvent.keyDown(card, { key: "a" });
  fireEvent.click(screen.getByTestId("approve"));
  fireEvent.keyDown(card, { key: "d" });
  expect(decide).not.toHaveBeenCalled();
});

it.each([
  ["with a modifier", { key: "a", ctrlKey: true }],
  ["repeated by a held key", { key: "a", repeat: true }],
])("a key %s does not count", async (_, key) => {
  const card = show(asked());
  await wait(500);
  fireEvent.keyDown(card, key);
  expect(decide).not.toHaveBeenCalled();
});

it("a letter typed into a field of the card is text", async () => {
  show(asked());
  await wait(500);
  fireEvent.click(screen.getByTestId("deny-with-message"));
  fireEvent.keyDown(screen.getByTestId("deny-message"), { key: "a" });
  expect(decide).not.toHaveBeenCalled();
});

it("shows what cannot be seen", () => {
  show(asked());
  expect(screen.getByTestId("hidden-character").textContent).toBe("U+200B");
});

it("a long input must be shown whole before it can be approved", async () => {
  const card = show(asked({ input: { command: `${"x\n".repeat(200)}rm -rf /` } }));
  await wait(500);
  fireEvent.keyDown(card, { key: "a" });
  expect(decide).not.toHaveBeenCalled();
  fireEvent.click(screen.getByTestId("show-all"));
  expect(screen.getByTestId("approval-input").textContent).toContain("rm -rf /");
  fireEvent.keyDown(card, { key: "a" });
  expect(decide).toHaveBeenCalledOnce();
});

it("a cut input is loaded whole, and another input under the same id is refused", async () => {
  approval.mockResolvedValueOnce({ ...asked(), inputHash: "other" });
  const card = show(asked({ truncated: { input: { size: 70_000, url: "/api/sessions/s/texts/0" } } }));
  await wait(500);
  fireEvent.keyDown(card, { key: "a" });
  expect(approval).toHaveBeenCalledWith("a1");
  expect(decide).not.toHaveBeenCalled();
  expect(screen.getByRole("alert").textContent).toContain("another input");
});

it("says who was faster", async () => {
  const { HttpError } = await import("../../net/http.ts");
  decide.mockRejectedValueOnce(new HttpError(409, "already_resolved", "", { outcome: "denied", by: "bob" }));
  const card = show(asked());
  await wait(500);
  fireEvent.keyDown(card, { key: "a" });
  await wait(0);
  expect(screen.getByRole("alert").textContent).toContain("Already denied by bob.");
});

it("says in words what a connection is asked for, and nothing about it can be edited", async () => {
  const card = show(asked({ tool: "network", input: { host: "example.org", port: 443 } }));
  await wait(1000);
  expect(card.querySelector("h2")?.textContent).toBe("Connect to example.org, port 443?");
  expect(card.getAttribute("aria-label")).toBe("Approval needed: connect to example.org, port 443");
  expect(screen.queryByTestId("edit-input")).toBeNull();
  cleanup();
  const other = show(asked({ tool: "Network", input: { host: "example.org", port: 443 } }));
  expect(other.querySelector("h2")?.textContent).toBe("Allow Network?");
  expect(screen.getByTestId("approval-input").textContent).toContain("example.org");
});
