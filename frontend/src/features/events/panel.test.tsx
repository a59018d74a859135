// @vitest-environment jsdom
import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { createStore } from "zustand/vanilla";
import { HttpError } from "../../net/http.ts";
import type { LogPlace } from "../../net/logstream.ts";
import { DRAWN } from "./book.ts";

/** A server with a log that the test writes. */
const server = { head: 0, refuses: undefined as HttpError | undefined, feeds: [] as ReadableStreamDefaultController<Uint8Array>[] };
const say = vi.fn();
const store = createStore(() => ({ connection: "open" }));
vi.mock("../../wiring.ts", () => ({
  client: { say },
  store,
  api: {
    log: () => ({
      place: (): Promise<LogPlace> => (server.refuses ? Promise.reject(server.refuses) : Promise.resolve({ epoch: "e", oldest: 1, head: server.head })),
      stream: () => Promise.resolve(new ReadableStream<Uint8Array>({ start: (feed) => void server.feeds.push(feed) })),
    }),
  },
}));
const { EventsPanel } = await import("./EventsPanel.tsx");
const clipboard = vi.fn<(text: string) => Promise<void>>();

beforeEach(() => {
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: vi.fn(), removeEventListener: vi.fn() }));
  vi.stubGlobal("ResizeObserver", class { observe() { /* no layout here */ } disconnect() { /* nor here */ } unobserve() { /* nor here */ } });
  vi.stubGlobal("requestAnimationFrame", (draw: () => void) => setTimeout(draw, 0));
  Object.defineProperty(navigator, "clipboard", { configurable: true, value: { writeText: clipboard } });
  clipboard.mockReset().mockResolvedValue();
  say.mockReset();
  Object.assign(server, { head: 0, refuses: undefined, feeds: [] });
  store.setState({ connection: "open" });
});
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

/** Timers of one length fire in order, however busy the machine: so many turns, and what was begun before is done. */
const TURNS = 15;
const settle = (): Promise<void> =>
  act(async () => {
    for (let turn = 0; turn < TURNS; turn++) await new Promise<void>((done) => setTimeout(done, 0));
  });
const line = (seq: number, type: string): string => JSON.stringify({ type, sessionId: "s", seq, at: "2026-01-01T10:00:00Z", content: `text ${seq}` });
/** So many further events. */
async function come(count: number, type = "stream"): Promise<void> {
  const rows = Array.from({ length: count }, () => (server.head += 1));
  server.feeds.at(-1)?.enqueue(new TextEncoder().encode(rows.map((seq) => `id: ${seq}\ndata: ${line(seq, type)}\n\n`).join("")));
  await settle();
}
async function panel(): Promise<void> {
  render(
    <MantineProvider env="test">
      <QueryClientProvider client={new QueryClient()}>
        <EventsPanel id="s" onClose={vi.fn()} />
      </QueryClientProvider>
    </MantineProvider>,
  );
  await settle();
}
const seqs = (): number[] => screen.queryAllByTestId("event").map((one) => Number(one.dataset.seq));
const state = (): string | undefined => screen.getByTestId("events-panel").dataset.state;
const press = (id: string): void => void fireEvent.click(screen.getByTestId(id));
const text = (id: string): string => screen.getByTestId(id).textContent;

it("shows what comes, and shouts none of it", async () => {
  await panel();
  expect([state(), text("events-panel")]).toEqual(["open", expect.stringContaining("Nothing has happened yet.")]);
  await come(2);
  await come(1, "complete");
  expect([seqs(), text("events-count")]).toEqual([[1, 2, 3], "3 events"]);
  expect(screen.getByRole("log").getAttribute("aria-live")).toBe("off");
  expect(text("events-said")).toBe("");
});

it("draws a window of a long log, and goes back in it", async () => {
  await panel();
  await come(DRAWN * 2 + 50);
  expect([seqs().length, seqs()[0], text("events-earlier")]).toEqual([DRAWN, DRAWN + 51, `Earlier (${DRAWN + 50})`]);
  press("events-earlier");
  expect([seqs().length, screen.getByTestId("events-panel").dataset.paused]).toEqual([DRAWN, "true"]);
  press("events-earlier");
  press("events-earlier");
  expect([seqs()[0], seqs().length, screen.queryByTestId("events-earlier")]).toEqual([1, DRAWN, null]);
  press("events-later");
  expect(seqs()[0]).toBe(101);
  press("events-pause");
  expect([seqs().at(-1), screen.queryByTestId("events-later")]).toEqual([server.head, null]);
});

it("stands still while it is paused, and says how many came", async () => {
  await panel();
  await come(2);
  press("events-pause");
  expect(text("events-said")).toBe("Paused.");
  await come(3);
  expect([seqs(), text("events-pause")]).toEqual([[1, 2], "Follow (3 new)"]);
  press("events-pause");
  expect([seqs(), text("events-pause")]).toEqual([[1, 2, 3, 4, 5], "Pause"]);
});

it("stands still while somebody reads an event", async () => {
  await panel();
  await come(2);
  fireEvent.click(screen.getAllByTestId("event-toggle")[0] as HTMLElement);
  expect(JSON.parse(text("event-json"))).toEqual(JSON.parse(line(1, "stream")));
  await come(1);
  expect([seqs(), text("events-pause")]).toEqual([[1, 2], "Follow (1 new)"]);
});

it("copies one, and all that are shown, as the log has them", async () => {
  await panel();
  await come(2);
  await come(1, "complete");
  fireEvent.click(screen.getAllByTestId("event-copy")[1] as HTMLElement);
  await settle();
  expect([clipboard.mock.lastCall, text("events-said")]).toEqual([[line(2, "stream")], "Copied event 2."]);
  fireEvent.change(screen.getByTestId("events-text"), { target: { value: "STREAM" } });
  await settle();
  expect([seqs(), text("events-count")]).toEqual([[1, 2], "2 of 3"]);
  press("events-copy");
  await settle();
  expect([clipboard.mock.lastCall, text("events-said")]).toEqual([[`${line(1, "stream")}\n${line(2, "stream")}`], "Copied 2 events."]);
  clipboard.mockRejectedValue(new Error("no"));
  press("events-copy");
  await settle();
  expect(say).toHaveBeenCalledOnce();
});

it("shows some types only, also of those that come", async () => {
  await panel();
  await come(2);
  await come(1, "complete");
  press("events-types");
  await settle();
  press("events-types-none");
  await settle();
  expect(text("events-panel")).toContain("No event matches.");
  fireEvent.click(screen.getAllByTestId("events-type").find((one) => one.dataset.type === "complete") as HTMLElement);
  await come(1, "complete");
  await come(1, "tool_use");
  expect([seqs(), text("events-types")]).toEqual([[3, 4], "1 of 3 types"]);
});

it("takes Escape for what is looked for, and not for the job", async () => {
  await panel();
  await come(1);
  const field = screen.getByTestId("events-text");
  fireEvent.change(field, { target: { value: "x" } });
  expect(fireEvent.keyDown(field, { key: "Escape" })).toBe(false);
  expect((field as HTMLInputElement).value).toBe("");
  press("events-types");
  await settle();
  expect(fireEvent.keyDown(screen.getByTestId("events-types-none"), { key: "Escape" })).toBe(false);
});

it("goes from event to event by arrows, with one stop for Tab", async () => {
  await panel();
  await come(3);
  const heads = screen.getAllByTestId("event-toggle");
  expect(heads.map((head) => head.tabIndex)).toEqual([-1, -1, 0]);
  heads[2]?.focus();
  fireEvent.keyDown(heads[2] as HTMLElement, { key: "ArrowUp" });
  expect(document.activeElement).toBe(heads[1]);
  fireEvent.keyDown(heads[1] as HTMLElement, { key: "Home" });
  fireEvent.keyDown(heads[0] as HTMLElement, { key: "ArrowUp" });
  expect(document.activeElement).toBe(heads[0]);
  expect(heads.map((head) => head.tabIndex)).toEqual([0, -1, -1]);
});

it("says that it is cut off, keeps what it has, and reads on", async () => {
  await panel();
  await come(2);
  act(() => store.setState({ connection: "waiting" }));
  expect([state(), seqs()]).toEqual(["waiting", [1, 2]]);
  expect(text("events-panel")).not.toContain("Connecting again."); // the page says it
  act(() => store.setState({ connection: "open" }));
  await settle();
  await come(1);
  expect([state(), seqs()]).toEqual(["open", [1, 2, 3]]);
});

it("says that it reads again when the stream alone has ended", async () => {
  await panel();
  await come(1);
  server.refuses = new HttpError(503, "unavailable", "Later.");
  server.feeds.at(-1)?.close();
  await settle();
  expect([state(), seqs()]).toEqual(["waiting", [1]]);
  expect(text("events-panel")).toContain("Connecting again.");
});

it("says why it may not, and asks again when it is told to", async () => {
  server.refuses = new HttpError(403, "forbidden", "This is not for you.");
  await panel();
  expect([state(), screen.getByRole("alert").textContent]).toEqual(["refused", expect.stringContaining("This is not for you.")]);
  server.refuses = undefined;
  press("events-again");
  await settle();
  await come(1);
  expect([state(), seqs(), screen.queryByRole("alert")]).toEqual(["open", [1], null]);
});

it("reads nothing while the tab is not looked at", async () => {
  const hidden = vi.spyOn(document, "hidden", "get").mockReturnValue(true);
  await panel();
  expect(server.feeds).toHaveLength(0);
  hidden.mockReturnValue(false);
  act(() => void document.dispatchEvent(new Event("visibilitychange")));
  await settle();
  await come(1);
  expect(seqs()).toEqual([1]);
  hidden.mockRestore();
});
