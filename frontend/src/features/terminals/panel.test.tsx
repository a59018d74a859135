// @vitest-environment jsdom
import { MantineProvider } from "@mantine/core";
import { notifyManager, QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { ShellRow } from "../../net/shells.ts";

const shells = vi.fn<() => Promise<{ items: ShellRow[] }>>();
const openShell = vi.fn<() => Promise<ShellRow>>();
vi.mock("../../wiring.ts", () => ({ api: { shells, openShell, shellUrl: (_: string, shell: string) => shell }, client: { say: vi.fn() } }));
/** What the server says of the reader, and how the shell does. */
const me = { state: "open", types: true, mayType: true };
/** What draws needs a real browser. */
vi.mock("./tab.ts", () => ({
  Tab: class {
    readonly screen = { focus: vi.fn(), look: vi.fn(), upper: true };
    readonly socket = { hold: vi.fn(), hurry: vi.fn() };
    private readonly shown = { why: "", title: "", note: "", viewers: [], you: "", sending: 0, ...me };
    subscribe = () => () => undefined;
    snapshot = () => this.shown;
    listen = vi.fn();
    show = vi.fn();
    hide = vi.fn();
    dispose = vi.fn();
  },
}));
const { TerminalPanel } = await import("./TerminalPanel.tsx");

const row = (shellId: string, second: number, over: Partial<ShellRow> = {}): ShellRow => ({
  shellId, startedAt: `2026-01-01T00:00:0${second}.000Z`, width: 80, height: 24, oldest: 0, head: 0, running: true, viewers: [], ...over,
});
let queries: QueryClient;
// What was read is drawn when the reading is over, not some time later.
notifyManager.setScheduler((act) => act());

beforeEach(() => {
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: vi.fn(), removeEventListener: vi.fn() }));
  vi.stubGlobal("ResizeObserver", class { observe() { /* no layout here */ } disconnect() { /* nor here */ } unobserve() { /* nor here */ } });
  Element.prototype.scrollIntoView = vi.fn(); // no layout here
  sessionStorage.clear();
  Object.assign(me, { state: "open", types: true, mayType: true });
  queries = new QueryClient({ defaultOptions: { queries: { retry: false } } });
});
afterEach(() => {
  cleanup();
  queries.clear();
  vi.unstubAllGlobals();
});

/** The panel with these shells, once it has read the list. */
async function panel(...items: ShellRow[]): Promise<void> {
  shells.mockResolvedValue({ items });
  render(
    <MantineProvider env="test">
      <QueryClientProvider client={queries}>
        <TerminalPanel id="s" mayOpen visiting={false} pressed={false} full={false} onFull={vi.fn()} onClose={vi.fn()} />
      </QueryClientProvider>
    </MantineProvider>,
  );
  await act(() => vi.waitFor(() => expect(queries.isFetching()).toBe(0)));
}
/** The list is read again, and others have done something. */
const now = (...items: ShellRow[]): Promise<void> => {
  shells.mockResolvedValue({ items });
  return act(() => queries.invalidateQueries());
};
const shown = (): string | undefined => screen.queryByTestId("terminal")?.dataset.shell;
const tabs = (): (string | undefined)[] => screen.queryAllByTestId("terminal-tab").map((one) => one.dataset.shell);

it("keeps the shell that is shown when somebody else opens one", async () => {
  await panel(row("a", 1));
  await now(row("a", 1), row("b", 2));
  expect([shown(), tabs()]).toEqual(["a", ["a", "b"]]);
});

it("keeps the shell that is shown when it ends, until it is closed", async () => {
  await panel(row("a", 1), row("b", 2));
  expect(shown()).toBe("b");
  await now(row("a", 1), row("b", 2, { running: false, exitCode: 0 }));
  expect(shown()).toBe("b");
  await now(row("a", 1));
  expect([shown(), tabs()]).toEqual(["b", ["a", "b"]]);
});

it("keeps an ended shell when another gets its id", async () => {
  await panel(row("a", 1));
  await now(row("a", 2));
  expect(screen.getByRole("tab", { selected: true }).dataset.key).toContain("00:01");
});

it("shows another when a person chooses it, and what a person makes", async () => {
  await panel(row("a", 1), row("b", 2));
  fireEvent.click(screen.getAllByTestId("terminal-tab")[0] as HTMLElement);
  expect(shown()).toBe("a");
  openShell.mockResolvedValue(row("c", 3));
  shells.mockResolvedValue({ items: [row("a", 1), row("b", 2), row("c", 3), row("d", 4)] });
  fireEvent.click(screen.getByTestId("terminal-new"));
  await vi.waitFor(() => expect(shown()).toBe("c"));
});

it("shows none of others' by itself where there was none", async () => {
  await panel();
  await now(row("a", 1));
  expect([shown(), tabs()]).toEqual([undefined, ["a"]]);
  expect(screen.getByTestId("terminal-panel").textContent).toContain("Choose one above");
});

it("calls a shell by the command that it was made with", async () => {
  await panel(row("a", 1), row("b", 2, { command: ["npm", "test"] }));
  expect(screen.getAllByTestId("terminal-tab").map((one) => [one.textContent, one.title])).toEqual([
    ["Shell a", "Shell a"], ["npm test", "npm test (Shell b)"],
  ]);
});

it("brings the tab of the shell that is shown into view", async () => {
  const seen = vi.spyOn(Element.prototype, "scrollIntoView");
  await panel(row("a", 1), row("b", 2));
  fireEvent.click(screen.getAllByTestId("terminal-tab")[0] as HTMLElement);
  expect(seen.mock.contexts.map((one) => (one as HTMLElement).dataset.shell)).toEqual(["b", "a"]);
});

it.each([[true, true, true], [false, true, true], [false, false, false]])("types: %s, may: %s, has the keys: %s", async (types, mayType, has) => {
  Object.assign(me, { types, mayType });
  await panel(row("a", 1));
  expect(screen.queryByTestId("terminal-keys") !== null).toBe(has);
});

it.each([["open", true], ["ended", false]])("of a shell that is %s, says that Tab goes to it: %s", async (state, says) => {
  Object.assign(me, { state });
  await panel(row("a", 1));
  expect(screen.getByTestId("terminal-panel").textContent.includes("Tab goes to the shell")).toBe(says);
});
