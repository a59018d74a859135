// @vitest-environment jsdom
import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { Key } from "../../net/api.ts";
import { HttpError } from "../../net/http.ts";
import type { NewKey, NewPair, PairSecret } from "../../net/people.ts";

const api = {
  keys: vi.fn<() => Promise<{ items: Key[] }>>(),
  createPair: vi.fn<(wish: NewPair) => Promise<PairSecret>>(),
  createKey: vi.fn<(wish: NewKey) => Promise<Key & { key: string }>>(),
  revokeKey: vi.fn<(id: string) => Promise<undefined>>(),
};
vi.mock("../../wiring.ts", () => ({ api, client: {} }));
const { KeyPairs } = await import("./KeyPairs.tsx");
const { Keys } = await import("./Keys.tsx");
const { environment, standing } = await import("./keywords.ts");

const AT = "2026-01-01T00:00:00.000Z";
const key = (over: Partial<Key> = {}): Key => ({ id: "k1", kind: "key", name: "ci", scopes: ["read"], account: "ann", createdAt: AT, ...over });
const pair = (over: Partial<Key> = {}): Key => key({ id: "PHKA2", kind: "sigv4", name: "nightly", ...over });

beforeEach(() => {
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: vi.fn(), removeEventListener: vi.fn() }));
  vi.stubGlobal("ResizeObserver", class { observe() { /* no layout here */ } disconnect() { /* nor here */ } unobserve() { /* nor here */ } });
  vi.resetAllMocks();
  api.keys.mockResolvedValue({ items: [key(), pair()] });
});
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

function show(view = <KeyPairs account="ann" />): QueryClient {
  const queries = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  render(
    <MantineProvider env="test">
      <QueryClientProvider client={queries}>{view}</QueryClientProvider>
    </MantineProvider>,
  );
  return queries;
}

it("says whose a pair is, when it was used, and when it ends or ended", () => {
  const now = Date.parse(AT);
  expect(standing(pair(), "ann", now)).toBe("never used; until revoked");
  expect(standing(pair({ account: "bob", lastUsedAt: AT, expiresAt: AT }), "ann", now)).toBe("of bob; used now; ended now");
  expect(standing(pair({ expiresAt: "2026-01-02T00:00:00.000Z" }), "ann", now)).toMatch(/^never used; until .*2026/);
  expect(standing(key(), "ann", now)).toBe("never used");
  expect(standing(key({ ratePerS: 0.5, rateBurst: 1, quotaPerDay: 50 }), "ann", now)).toBe("never used; 0.5 requests a second, 1 at once, 50 jobs a day");
  expect(standing(key({ ratePerS: 0, rateBurst: 5, quotaPerDay: 0 }), "ann", now)).toBe("never used; requests not limited, jobs not limited");
});

it("makes a pair as it was wished for, and shows its secret until that is closed", async () => {
  const queries = show();
  await screen.findByTestId("pair-row");
  api.createPair.mockResolvedValueOnce({ accessKeyId: "PHKA3", secretAccessKey: "s-e_cret", sessionToken: "to-ken" });
  await userEvent.type(screen.getByTestId("pair-name"), " build ");
  await userEvent.click(screen.getByTestId("pair-scope-approve"));
  await userEvent.selectOptions(screen.getByTestId("pair-lasts"), "3600");
  await userEvent.click(screen.getByTestId("pair-token"));
  await userEvent.click(screen.getByTestId("pair-make"));
  expect((await screen.findByTestId("pair-secret")).textContent).toBe("s-e_cret");
  expect(screen.getByTestId("pair-session-token").textContent).toBe("to-ken");
  expect(api.createPair).toHaveBeenCalledWith({ name: "build", scopes: ["read", "run"], expiresInS: 3600, sessionToken: true });
  expect(api.keys).toHaveBeenCalledTimes(2);
  await userEvent.click(screen.getByRole("button", { name: "Close" }));
  expect(document.body.textContent).not.toContain("s-e_cret");
  await waitFor(() => expect(queries.getMutationCache().getAll()).toEqual([]));
  expect(environment({ accessKeyId: "PHKA3", secretAccessKey: "s" })).toBe("export AWS_ACCESS_KEY_ID=PHKA3\nexport AWS_SECRET_ACCESS_KEY=s");
});

it("asks for no end and no token where none was wished for, and needs a scope", async () => {
  show();
  api.createPair.mockRejectedValueOnce(new HttpError(503, "unavailable", "No key pair can be kept: the key file is gone"));
  await userEvent.click(await screen.findByTestId("pair-make"));
  expect(api.createPair).toHaveBeenCalledWith({ name: "key pair", scopes: ["read", "run", "approve"] });
  expect((await screen.findByRole("alert")).textContent).toContain("No key pair can be kept");
  for (const scope of ["read", "run", "approve"]) await userEvent.click(screen.getByTestId(`pair-scope-${scope}`));
  expect(screen.getByTestId("pair-make")).toHaveProperty("disabled", true);
});

it("lists each kind in its own place, and revokes when that is confirmed", async () => {
  show(
    <>
      <Keys account="ann" />
      <KeyPairs account="ann" />
    </>,
  );
  expect((await screen.findByTestId("key-row")).textContent).toContain("ci");
  const row = screen.getByTestId("pair-row");
  expect(row.textContent).toContain("PHKA2");
  await userEvent.click(within(row).getByTestId("pair-revoke"));
  expect(api.revokeKey).not.toHaveBeenCalled();
  api.revokeKey.mockRejectedValueOnce(new HttpError(404, "not_found", "Not found."));
  await userEvent.click(await screen.findByTestId("confirm"));
  expect((await within(screen.getByRole("dialog")).findByRole("alert")).textContent).toContain("Not found.");
  api.revokeKey.mockResolvedValueOnce(undefined);
  await userEvent.click(screen.getByTestId("confirm"));
  await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
  expect(api.revokeKey).toHaveBeenCalledWith("PHKA2");
});

const USUAL = { ratePerS: 10, rateBurst: 20, quotaPerDay: 0 };

it("makes a key with rates of its own, and says what counts for those that are left empty", async () => {
  const user = userEvent.setup();
  show(<Keys account="ann" usual={USUAL} />);
  api.createKey.mockResolvedValue({ ...key(), key: "ph_x" });
  await user.click(screen.getByTestId("key-create"));
  expect(api.createKey).toHaveBeenLastCalledWith({ name: "key", scopes: ["read", "run", "approve"] });
  const fold = screen.getByRole("button", { name: "How often it may" });
  expect([fold.getAttribute("aria-expanded"), screen.queryByRole("group", { name: "How often the API key may" })]).toEqual(["false", null]);
  await user.click(fold);
  expect(fold.getAttribute("aria-expanded")).toBe("true");
  const [perS, burst, perDay] = ["Requests a second", "Requests at once", "Jobs a day"].map((label) => screen.getByLabelText<HTMLInputElement>(label)) as [HTMLInputElement, HTMLInputElement, HTMLInputElement];
  expect([perS, burst, perDay].map((one) => one.placeholder)).toEqual(["10", "20", "no limit"]);
  await user.type(perS, " 0.5 ");
  await user.type(perDay, "100");
  await user.click(screen.getByTestId("key-create"));
  expect(api.createKey).toHaveBeenLastCalledWith({ name: "key", scopes: ["read", "run", "approve"], ratePerS: 0.5, quotaPerDay: 100 });
  await waitFor(() => expect(perS.value + perDay.value).toBe(""));
  await user.type(burst, "1.5{Enter}");
  expect(api.createKey).toHaveBeenCalledTimes(2);
  expect(screen.getByRole("alert").textContent).toBe("A whole number");
  expect([burst.getAttribute("aria-invalid"), document.activeElement === burst]).toEqual(["true", true]);
});

it("names a rate that is refused beside its field, also where that is folded away", async () => {
  const user = userEvent.setup();
  show(<KeyPairs account="ann" />);
  api.createPair.mockRejectedValueOnce(new HttpError(400, "bad_request", "rateBurst: from 1 to 1000000"));
  await user.click(screen.getByTestId("pair-rates"));
  const burst = screen.getByLabelText("Requests at once");
  expect(burst.getAttribute("placeholder")).toBe("as configured");
  await user.type(burst, "0");
  await user.click(screen.getByTestId("pair-rates"));
  expect(screen.getByTestId("pair-rates").textContent).toContain("1 set");
  await user.click(screen.getByTestId("pair-make"));
  const alert = await screen.findByRole("alert");
  expect([alert.textContent, burst.getAttribute("aria-describedby")?.includes(alert.id), screen.getByTestId("pair-rates").getAttribute("aria-expanded")]).toEqual(["From 1 to 1000000", true, "true"]);
  await user.type(burst, "{Backspace}30");
  expect(screen.queryByRole("alert")).toBeNull();
  api.createPair.mockRejectedValueOnce(new HttpError(403, "forbidden", "ratePerS, rateBurst, quotaPerDay: only an admin of the server gives more than it gives itself."));
  await user.click(screen.getByTestId("pair-make"));
  expect((await screen.findByRole("alert")).textContent).toBe("Only an admin of the server gives more than it gives itself.");
  expect(screen.queryByTestId("try-again"), "it is no matter of one's role").toBeNull();
  expect(document.querySelectorAll('[aria-invalid="true"]')).toHaveLength(3);
  api.createPair.mockResolvedValueOnce({ accessKeyId: "PHKA3", secretAccessKey: "s" });
  await user.click(screen.getByTestId("pair-make"));
  expect(api.createPair).toHaveBeenLastCalledWith({ name: "key pair", scopes: ["read", "run", "approve"], rateBurst: 30 });
  await waitFor(() => expect(screen.queryByRole("alert")).toBeNull());
});

it("says that there is none, and what could not be read", async () => {
  api.keys.mockResolvedValueOnce({ items: [key()] });
  show();
  expect(await screen.findByText("No key pair yet.")).toBeTruthy();
  cleanup();
  api.keys.mockRejectedValueOnce(new HttpError(500, "error", "Something broke."));
  show();
  expect((await screen.findByRole("alert")).textContent).toContain("Something broke.");
  await userEvent.click(screen.getByTestId("try-again"));
  expect(await screen.findByTestId("pair-row")).toBeTruthy();
});
