// @vitest-environment jsdom
import { MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { act, cleanup, fireEvent, render, screen, within } from "@testing-library/react";
import type { ReactNode } from "react";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { Limit, Me, Session } from "../../net/api.ts";

const limits = vi.fn<(id: string) => Promise<{ limits: Limit[] }>>();
const createSession = vi.fn<(body: unknown) => Promise<{ id: string }>>();
const sent = vi.fn();
vi.mock("../../wiring.ts", async () => {
  const { QueryClient } = await import("@tanstack/react-query");
  return { api: { limits, createSession }, client: { prompt: sent }, queries: new QueryClient({ defaultOptions: { queries: { retry: false } } }) };
});
const { LimitsPanel } = await import("./LimitsPanel.tsx");
const { NewSession } = await import("../sessions/NewSession.tsx");
const { IsolationBanner, parts } = await import("../sessions/IsolationBanner.tsx");
const { IsolationBadge } = await import("../sessions/Isolation.tsx");
const { ErrorRow } = await import("../chat/plainrows.tsx");
const { amount, enforcedWords, faultsOf, hitsWords, NOTHING, parse, refusedField, share, wished } = await import("./words.ts");
const { HttpError } = await import("../../net/http.ts");
const { queries } = await import("../../wiring.ts");

const GIB = 2 ** 30;
/** The whole page of a new session is drawn again and again; a busy machine takes seconds for it. */
const SLOW_MS = 30_000;
const limit = (over: Partial<Limit> = {}): Limit => ({ name: "memory", unit: "bytes", max: 4 * GIB, used: 1.23 * GIB, enforced: "cgroup", hits: 0, ...over });

beforeEach(() => {
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: vi.fn(), removeEventListener: vi.fn() }));
  vi.stubGlobal("ResizeObserver", class { observe() { /* no layout here */ } disconnect() { /* nor here */ } unobserve() { /* nor here */ } });
  Object.defineProperty(document, "fonts", { configurable: true, value: { addEventListener: vi.fn(), removeEventListener: vi.fn() } });
  for (const one of [limits, createSession, sent]) one.mockReset();
  queries.clear();
});
afterEach(() => {
  cleanup();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function show(what: ReactNode): void {
  render(
    <MantineProvider env="test">
      <QueryClientProvider client={queries}>{what}</QueryClientProvider>
    </MantineProvider>,
  );
}
const panel = (state: Session["state"] = "active") => show(<LimitsPanel id="s1" state={state} onClose={() => undefined} />);
const row = async (name: string) => (await screen.findAllByTestId("limit")).find((one) => one.dataset.name === name) ?? expect.fail(name);

it.each<[Partial<Limit>, string]>([
  [{}, "1.2 of 4 GiB"],
  [{ used: 310 * 2 ** 20 }, "310 MiB of 4 GiB"],
  [{ used: 178.6 * 2 ** 20 }, "179 MiB of 4 GiB"],
  [{ used: 0 }, "0 B of 4 GiB"],
  [{ max: 0.5 * GIB, used: 512 * 2 ** 20 }, "512 of 512 MiB"],
  [{ used: null }, "up to 4 GiB"],
  [{ max: null }, "1.2 GiB, not limited"],
  [{ max: null, used: null }, "not limited"],
  [{ unit: "count", max: 500_000, used: 1234 }, "1,234 of 500,000"],
  [{ unit: "cores", max: 1.5, used: null }, "up to 1.5"],
])("says %o as %s", (over, words) => expect(amount(limit(over))).toBe(words));

it("draws no more than all and nothing where nobody counts", () => {
  expect([share(limit({ used: 9 * GIB })), share(limit({ used: null })), share(limit({ max: null })), share(limit({ max: 0 }))]).toEqual([100, undefined, undefined, undefined]);
});

it("says each way a limit is held, and a new one by its name", () => {
  expect(enforcedWords("cgroup")).toBe("Enforced by the kernel");
  expect(enforcedWords("watchdog")).toMatch(/^Watched/);
  expect(enforcedWords("none")).toBe("Not enforced");
  expect(enforcedWords("vm")).toBe("vm");
  expect(hitsWords(limit({ hits: 1 }))).toBe("Reached once");
  expect(hitsWords(limit({ name: "cpu", hits: 1204 }))).toBe("Held back 1,204 times");
});

it.each<[string, number | undefined]>([
  ["512M", 512 * 2 ** 20], ["2G", 2 * GIB], ["1.5 GiB", 1.5 * GIB], ["2gb", 2 * GIB], ["1024", 1024],
  ["", undefined], ["lots", undefined], ["-1G", undefined], ["2GG", undefined], ["0x10", undefined],
])("reads the size %s", (text, bytes) => expect(parse("memory", text)).toBe(bytes));

it("asks only for what was typed, and names what it cannot read", () => {
  expect(wished(NOTHING)).toBeUndefined();
  expect(wished({ ...NOTHING, memory: " 1G ", cpu: "1.5" })).toEqual({ memory: GIB, cpu: 1.5 });
  expect(Object.keys(faultsOf({ ...NOTHING, disk: "much", processes: "12" }))).toEqual(["disk"]);
  expect(refusedField("limits.memory: from 64 MiB to 4 GiB, not 1 B")).toEqual({ name: "memory", fault: "From 64 MiB to 4 GiB, not 1 B" });
  expect(refusedField("limits.tmp: from 1 MiB")).toBeUndefined();
  expect(refusedField("agent: 'x' is none of claude")).toBeUndefined();
});

it("shows each limit with a bar that can be heard, and what was reached", async () => {
  limits.mockResolvedValue({ limits: [limit({ hits: 2 }), limit({ name: "cpu", unit: "cores", max: 2, used: null, hits: 7 }), limit({ name: "files", unit: "count", max: 9, used: 1, enforced: "none" })] });
  panel();
  const memory = await row("memory");
  const bar = within(memory).getByRole("progressbar", { name: "Memory" });
  expect([bar.getAttribute("aria-valuenow"), bar.getAttribute("aria-valuetext")]).toEqual(["31", "1.2 of 4 GiB"]);
  expect(memory.textContent).toContain("Reached 2 times");
  expect(memory.textContent).toContain("Enforced by the kernel");
  expect(within(await row("cpu")).queryByRole("progressbar")).toBeNull();
  expect((await row("files")).textContent).toContain("Not enforced");
  expect(screen.queryByTestId("limits-idle")).toBeNull();
});

it("asks again while it is open, keeps what it knew on a fault, and stops when it is closed", async () => {
  vi.useFakeTimers();
  limits.mockResolvedValueOnce({ limits: [limit()] }).mockRejectedValueOnce(new HttpError(503, "unavailable", "The keeper does not answer.")).mockResolvedValue({ limits: [limit({ used: 2 * GIB })] });
  panel();
  await act(() => vi.advanceTimersByTimeAsync(100));
  expect(screen.getByTestId("limit-amount").textContent).toBe("1.2 of 4 GiB");
  await act(() => vi.advanceTimersByTimeAsync(3_000));
  expect(screen.getByTestId("limits-error").textContent).toBe("The keeper does not answer. This is what was known before.");
  expect(screen.getByTestId("limit-amount").textContent).toBe("1.2 of 4 GiB");
  await act(() => vi.advanceTimersByTimeAsync(3_000));
  expect(screen.queryByTestId("limits-error")).toBeNull();
  expect(screen.getByTestId("limit-amount").textContent).toBe("2 of 4 GiB");
  cleanup();
  const asked = limits.mock.calls.length;
  await act(() => vi.advanceTimersByTimeAsync(30_000));
  expect(limits).toHaveBeenCalledTimes(asked);
});

it("says that nothing runs, that it was lost, and that it cannot be read", async () => {
  limits.mockResolvedValue({ limits: [limit({ used: null })] });
  panel("stopped");
  expect((await screen.findByTestId("limits-idle")).textContent).toContain("Nothing of this session runs now");
  cleanup();
  panel("lost");
  expect((await screen.findByTestId("limits-idle")).textContent).toContain("was lost");
  cleanup();
  queries.clear();
  limits.mockRejectedValue(new HttpError(404, "not_found", "No such session."));
  panel();
  expect((await screen.findByRole("alert")).textContent).toContain("No such session.");
});

const ME = {
  principal: { kind: "person", id: "p", name: "you", scopes: [] }, csrf: "",
  server: { agents: [{ id: "claude", label: "Claude Code" }], defaultAgent: "claude", permissionModes: ["acceptEdits"], promptMax: 1000, limits: { memory: 4 * GIB, cpu: 2, processes: 512, disk: 10 * GIB } },
} as unknown as Me;

const type = (into: HTMLElement, value: string) => fireEvent.change(into, { target: { value } });
const start = () => fireEvent.submit(screen.getByTestId("composer").closest("form") ?? expect.fail("no form"));

it("shows at its field what cannot be read, and what the server refused", async () => {
  show(<NewSession me={ME} />);
  const fold = screen.getByTestId("advanced");
  const field = screen.getByTestId("limit-memory");
  expect(field.getAttribute("placeholder")).toBe("4 GiB");
  expect(fold.getAttribute("aria-expanded")).toBe("false");
  type(screen.getByTestId("composer"), "hello");
  type(field, "lots");
  start();
  expect(createSession).not.toHaveBeenCalled();
  expect(fold.getAttribute("aria-expanded")).toBe("true");
  expect(document.activeElement).toBe(field);

  type(field, "1K");
  fireEvent.click(fold);
  createSession.mockRejectedValueOnce(new HttpError(400, "bad_request", "limits.memory: from 64 MiB to 64 TiB, not 1 KiB"));
  start();
  await screen.findByText("From 64 MiB to 64 TiB, not 1 KiB");
  expect(fold.getAttribute("aria-expanded")).toBe("true");
  expect(field.getAttribute("aria-invalid")).toBe("true");
  expect(document.activeElement).toBe(field);
  expect(screen.queryByRole("alert")).toBeNull();
  expect(sent).not.toHaveBeenCalled();

  type(field, "1G");
  expect(field.getAttribute("aria-invalid")).not.toBe("true");
  createSession.mockResolvedValueOnce({ id: "s2" });
  start();
  await vi.waitFor(() => expect(sent).toHaveBeenCalledOnce());
  expect(createSession).toHaveBeenLastCalledWith(expect.objectContaining({ limits: { memory: GIB } }));
}, SLOW_MS);

it("asks for no limits where none were typed", async () => {
  createSession.mockResolvedValueOnce({ id: "s3" });
  show(<NewSession me={ME} />);
  type(screen.getByTestId("composer"), "hello");
  start();
  await vi.waitFor(() => expect(sent).toHaveBeenCalledOnce());
  expect(createSession).toHaveBeenCalledExactlyOnceWith({ agent: "claude", permissionMode: "acceptEdits", title: "hello" });
});

it("tells a limit that was reached from other errors", () => {
  show(<ErrorRow event={{ type: "error", seq: 1, code: "limit_disk", message: "The session's disk of 64 MiB is nearly full: 0 B are left." }} />);
  expect(screen.getByTestId("error-event").textContent).toBe("Disk limit reachedThe session's disk of 64 MiB is nearly full: 0 B are left.");
  cleanup();
  show(<ErrorRow event={{ type: "error", seq: 1, code: "agent_failed", message: "It ended." }} />);
  expect(screen.getByTestId("error-event").textContent).toBe("It ended.");
});

it("stands over everything while isolation is reduced, in the probe's own words", () => {
  const summary = "Sessions run with REDUCED isolation: this kernel makes no namespaces. " + "And more. ".repeat(20);
  show(<IsolationBanner server={{ ...ME.server, isolation: "reduced", isolationSummary: summary }} />);
  const banner = screen.getByTestId("isolation-banner");
  expect(banner.querySelector("strong")?.textContent).toBe("Sessions run with REDUCED isolation:");
  expect(banner.textContent).toContain(summary.trim());
  const more = screen.getByRole("button", { name: "Show all" });
  fireEvent.click(more);
  expect(more.getAttribute("aria-expanded")).toBe("true");
  cleanup();
  show(<IsolationBanner server={{ ...ME.server, isolation: "namespaces", isolationSummary: "fine" }} />);
  expect(screen.queryByTestId("isolation-banner")).toBeNull();
  expect(parts("No isolation.", "Plain processes: beware.")).toEqual({ lead: "No isolation.", rest: "Plain processes: beware." });
});

it("marks each session that is not fully isolated", () => {
  show(<><IsolationBadge isolation="reduced" /><IsolationBadge isolation="none" /><IsolationBadge isolation="namespaces" /><IsolationBadge isolation={undefined} /></>);
  expect(screen.getAllByTestId("isolation-label").map((one) => one.textContent)).toEqual(["reduced isolation", "no isolation"]);
});
