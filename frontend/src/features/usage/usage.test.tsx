// @vitest-environment jsdom
import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, render, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { UsageTable, Used } from "../../net/usage.ts";
import { NOTHING, daysOf, everyDay, nameOf, share, unmeasured } from "./words.ts";

interface Asked {
  from: string;
  to: string;
  by: string;
}
const usage = vi.fn<(asked: Asked) => Promise<UsageTable>>();
const usageCsvUrl = ({ from, to, by }: Asked): string => `http://x/api/usage.csv?from=${from}&to=${to}&by=${by}`;
vi.mock("../../wiring.ts", () => ({ api: { usage, usageCsvUrl } }));
const { Usage } = await import("./Usage.tsx");

const NOON = Date.UTC(2026, 10, 22, 12);
const OWN = { from: "", to: "" };
const row = (over: Partial<Used> = {}): Used => ({ ...NOTHING, calls: 1, inputTokens: 10, outputTokens: 5, costUsd: 0.5, ...over });
const table = (items: Used[], over: Partial<UsageTable> = {}): UsageTable => ({
  from: "2026-11-20", to: "2026-11-22", by: ["day"], organisation: "default", whose: "organisation", items, next: null,
  total: items.reduce((sum, one) => ({ ...sum, calls: sum.calls + one.calls, inputTokens: sum.inputTokens + one.inputTokens, outputTokens: sum.outputTokens + one.outputTokens, costUsd: sum.costUsd + one.costUsd }), NOTHING),
  ...over,
});

describe("words", () => {
  it("knows the days of a period, of UTC", () => {
    expect(daysOf("7", NOON, OWN)).toEqual({ from: "2026-11-16", to: "2026-11-22" });
    expect(daysOf("month", NOON, OWN)).toEqual({ from: "2026-11-01", to: "2026-11-22" });
    expect(daysOf("before", NOON, OWN)).toEqual({ from: "2026-10-01", to: "2026-10-31" });
    expect(daysOf("before", Date.UTC(2026, 0, 31, 23), OWN)).toEqual({ from: "2025-12-01", to: "2025-12-31" });
    expect(daysOf("own", NOON, { from: "2026-01-01", to: "2026-01-02" })).toEqual({ from: "2026-01-01", to: "2026-01-02" });
  });

  it("shows the days on which nothing was used, from the first that has something", () => {
    const days = { from: "2026-11-01", to: "2026-11-22" };
    const shown = everyDay([row({ day: "2026-11-19" }), row({ day: "2026-11-21" })], days);
    expect(shown.map((one) => [one.day, one.calls])).toEqual([["2026-11-22", 0], ["2026-11-21", 1], ["2026-11-20", 0], ["2026-11-19", 1]]);
  });

  it("measures bars by cost, else by tokens", () => {
    const some = [row({ costUsd: 2 }), row({ costUsd: 1, inputTokens: 1000 })];
    expect(some.map((one) => share(one, some))).toEqual([1, 0.5]);
    const free = [row({ costUsd: 0 }), row({ costUsd: 0, inputTokens: 25 })];
    expect(free.map((one) => share(one, free))).toEqual([0.5, 1]);
    expect(share(NOTHING, [NOTHING])).toBe(0);
  });

  it("names what has no name", () => {
    expect(nameOf(row({ key: "" }), "key").name).toBe("no key");
    expect(nameOf(row({ key: "k1", keyName: "ci" }), "key")).toEqual({ name: "ci", also: "k1" });
    expect(nameOf(row({ person: "ann", personName: "ann" }), "person")).toEqual({ name: "ann", also: "" });
    expect(nameOf(row({ session: "s", sessionTitle: "" }), "session").also).toBe("s");
  });

  it("says what is not measured, and nothing where all is", () => {
    expect(unmeasured(row())).toEqual([]);
    expect(unmeasured(row({ guessedCostUsd: 0.1, guessedTokens: 3, agentTokens: 1200 }))).toHaveLength(3);
  });
});

describe("the page", () => {
  beforeEach(() => {
    vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: vi.fn(), removeEventListener: vi.fn() }));
    vi.stubGlobal("ResizeObserver", class { observe() { /* no layout here */ } disconnect() { /* nor here */ } unobserve() { /* nor here */ } });
    usage.mockReset();
  });
  afterEach(() => {
    cleanup();
    vi.unstubAllGlobals();
  });

  function show(): void {
    render(
      <MantineProvider env="test">
        <QueryClientProvider client={new QueryClient({ defaultOptions: { queries: { retry: false } } })}>
          <Usage />
        </QueryClientProvider>
      </MantineProvider>,
    );
  }

  it("asks for what is chosen, and the file is of the same", async () => {
    const user = userEvent.setup();
    usage.mockResolvedValue(table([row({ person: "a\u202enn", personName: "" })], { by: ["person"] }));
    show();
    await user.selectOptions(await screen.findByRole("combobox", { name: "By" }), "Person");
    await user.selectOptions(screen.getByRole("combobox", { name: "Period" }), "Last 7 days");
    await vi.waitFor(() => expect(usage.mock.lastCall?.[0].by).toBe("person"));
    expect(await screen.findByRole("rowheader")).toBeTruthy();
    expect(screen.getByTestId("hidden-character")).toBeTruthy();
    expect(screen.getByTestId("usage-total").textContent).toContain("$0.50 · 15 tokens · 1 model call");
    const asked = usage.mock.lastCall?.[0];
    expect(screen.getByRole("link", { name: "Download CSV" }).getAttribute("href")).toBe(asked && usageCsvUrl(asked));
  });

  it("says whose it is, what is not measured, and what went wrong", async () => {
    usage.mockResolvedValueOnce(table([], { whose: "own", total: { ...NOTHING, agentTokens: 7 } }));
    show();
    expect((await screen.findByTestId("usage-total")).textContent).toContain("your own prompts");
    expect(screen.getByTestId("usage-notes").textContent).toContain("agent’s own word");
    expect(screen.getByText("Nothing was used in this time.")).toBeTruthy();
    cleanup();
    usage.mockRejectedValueOnce(new Error("from: it is after `to`"));
    show();
    expect((await screen.findByRole("alert")).textContent).toContain("from: it is after");
  });
});
