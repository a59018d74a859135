// @vitest-environment jsdom
import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { Key, Me, SignIn } from "../../net/api.ts";
import { HttpError } from "../../net/http.ts";
import type { Member, Organisation, Role, Ticket } from "../../net/people.ts";

interface Page<T> {
  items: T[];
}
type Change = [organisation: string, account: string, body: { role?: Role; name?: string; disabled?: boolean }];
const api = {
  members: vi.fn<(organisation: string) => Promise<Page<Member>>>(),
  organisations: vi.fn<() => Promise<Page<Organisation>>>(),
  putMember: vi.fn<(...change: Change) => Promise<Member>>(),
  removeMember: vi.fn<(organisation: string, account: string) => Promise<undefined>>(),
  makeTicket: vi.fn<(organisation: string, account: string) => Promise<Ticket>>(),
  signIns: vi.fn<() => Promise<Page<SignIn>>>(),
  keys: vi.fn<() => Promise<Page<Key>>>(),
  providers: vi.fn<() => Promise<Page<{ id: string; label: string }>>>(),
};
const say = vi.fn<(words: string) => void>();
vi.mock("../../wiring.ts", () => ({ api, client: { say } }));
const { Members } = await import("./Members.tsx");
const { presence, refuseAccount, stays } = await import("./words.ts");

const member = (account: string, role: Role = "operator", over: Partial<Member> = {}): Member => ({
  account, name: account, organisation: "red", role, createdAt: "2026-01-01T00:00:00.000Z", disabled: false, ...over,
});
const me = (over: Partial<Me["principal"]> = {}): Me =>
  ({ principal: { kind: "person", id: "ann", name: "Ann", account: "ann", organisation: "red", role: "admin", scopes: ["read", "run", "approve", "admin"], ...over }, csrf: "", server: {} }) as unknown as Me;
const signIn = (account: string, lastSeenAt: string): SignIn => ({
  id: account, account, name: account, via: null, createdAt: lastSeenAt, lastSeenAt, expiresAt: lastSeenAt, address: "", agent: "", own: false, current: false,
});

beforeEach(() => {
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: vi.fn(), removeEventListener: vi.fn() }));
  vi.stubGlobal("ResizeObserver", class { observe() { /* no layout here */ } disconnect() { /* nor here */ } unobserve() { /* nor here */ } });
  vi.resetAllMocks();
  for (const one of [api.organisations, api.signIns, api.keys, api.providers]) one.mockResolvedValue({ items: [] });
  api.members.mockResolvedValue({ items: [member("ann", "admin", { name: "Ann" }), member("bob")] });
});
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

function show(who = me()): void {
  render(
    <MantineProvider env="test">
      <QueryClientProvider client={new QueryClient({ defaultOptions: { queries: { retry: false } } })}>
        <Members me={who} />
      </QueryClientProvider>
    </MantineProvider>,
  );
}

async function choose(account: string, what: string): Promise<void> {
  const rows = await screen.findAllByTestId("member-row");
  const row = rows.find((one) => one.dataset.account === account) ?? document.body;
  await userEvent.click(within(row).getByTestId("member-menu"));
  await userEvent.click(await screen.findByTestId(`member-${what}`));
}

it("says who has to stay, when somebody was here, and which accounts cannot be", () => {
  const local = member("local", "admin", { organisation: "default" });
  expect(stays(local, [local, member("eve", "admin")])).toContain("this machine");
  const last = member("ann", "admin");
  expect(stays(last, [last, member("bob"), member("eve", "admin", { disabled: true })])).toContain("last admin");
  expect(stays(last, [last, member("bob", "admin")])).toBeUndefined();
  expect(stays(member("bob"), [last, member("bob")])).toBeUndefined();

  const now = new Date().toISOString();
  const key: Key = { id: "k", name: "ci", scopes: [], account: "bob", createdAt: now, lastUsedAt: now };
  const seen = [signIn("bob", "2020-01-01T00:00:00.000Z"), signIn("bob", now), signIn("eve", now)];
  expect(presence(member("bob"), seen, [key])).toBe("signed in with 2 browsers, seen now; key used now");
  expect(presence(member("ann"), seen, [key])).toBe("not signed in");
  expect(presence(member("eve", "viewer", { disabled: true }), seen, [])).toBe("shut out, seen now");

  for (const bad of ["", "a b", "ä", ".", "..", "bob", "x".repeat(201)]) expect(refuseAccount(bad, [member("bob")]), bad).toBeTruthy();
  for (const good of ["ann@example.com", "https://iss.example#a/b", "..."]) expect(refuseAccount(good, [member("bob")]), good).toBeUndefined();
});

it("who is no admin reads what the roles are, asks for no list, and is offered nothing", () => {
  show(me({ role: "approver", scopes: ["read", "run", "approve"] }));
  expect(screen.getByTestId("members-refused").textContent).toContain("You are an approver");
  expect(screen.getAllByTestId("role-words").filter((one) => one.dataset.own === "true").map((one) => one.textContent)).toEqual([expect.stringContaining("Approver (you)")]);
  expect(screen.queryByTestId("add-member")).toBeNull();
  expect(api.members).not.toHaveBeenCalled();
});

it("is read again where reading failed", async () => {
  api.members.mockRejectedValueOnce(new HttpError(503, "unavailable", "The store does not answer; try again."));
  show();
  expect(screen.getByText("Reading…")).toBeTruthy();
  expect((await screen.findByRole("alert")).textContent).toContain("The store does not answer");
  expect(screen.queryByTestId("add-member")).toBeNull();
  await userEvent.click(screen.getByTestId("try-again"));
  expect(await screen.findAllByTestId("member-row")).toHaveLength(2);
});

it("adds nobody who is there, and a new one with a link to sign in by", async () => {
  show();
  const account = await screen.findByTestId("add-account");
  await userEvent.type(account, "bob");
  await userEvent.click(screen.getByTestId("add-member"));
  expect(await screen.findByText("That is a member already.")).toBeTruthy();
  expect(api.putMember).not.toHaveBeenCalled();

  api.putMember.mockResolvedValueOnce(member("cy@example.com", "viewer", { name: "Cy" }));
  await userEvent.clear(account);
  await userEvent.type(account, "cy@example.com");
  await userEvent.type(screen.getByTestId("add-name"), "Cy");
  await userEvent.selectOptions(screen.getByTestId("add-role"), "viewer");
  await userEvent.click(screen.getByTestId("add-member"));
  expect((await screen.findByTestId("added")).textContent).toContain("Cy is a viewer now.");
  expect(api.putMember).toHaveBeenCalledWith("red", "cy@example.com", { role: "viewer", name: "Cy" });

  api.makeTicket.mockResolvedValueOnce({ url: "http://x/#ticket=once", expiresAt: "2026-01-01T00:10:00.000Z" });
  await userEvent.click(screen.getByTestId("added-link"));
  await userEvent.click(await screen.findByTestId("ticket-make"));
  expect((await screen.findByTestId("ticket-url")).textContent).toBe("http://x/#ticket=once");
  await userEvent.click(within(screen.getByRole("dialog")).getAllByRole("button", { name: "Close" })[0] ?? document.body);
  await waitFor(() => expect(document.body.textContent).not.toContain("ticket=once"));
});

it("sends only what was changed, and says what the server refuses", async () => {
  show();
  await choose("bob", "change");
  const save = await screen.findByTestId("member-save");
  expect(save).toHaveProperty("disabled", true);
  await userEvent.click(screen.getByTestId("role-approver"));
  api.putMember.mockRejectedValueOnce(new HttpError(403, "forbidden", "This credential lacks the scope 'admin'."));
  await userEvent.click(save);
  expect((await within(screen.getByRole("dialog")).findByRole("alert")).textContent).toContain("Your role may have been changed");
  api.putMember.mockResolvedValueOnce(member("bob", "approver"));
  await userEvent.click(save);
  await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
  expect(api.putMember.mock.calls.at(-1)).toEqual(["red", "bob", { role: "approver" }]);
});

it("leaves the last admin as it is, by name apart, and warns who takes the role from themselves", async () => {
  show();
  await choose("ann", "change");
  expect(await screen.findByTestId("role-viewer")).toHaveProperty("disabled", true);
  expect(screen.getByRole("dialog").textContent).toContain("The last admin");
  cleanup();

  api.members.mockResolvedValue({ items: [member("ann", "admin"), member("bob", "admin")] });
  show();
  await choose("ann", "change");
  await userEvent.click(await screen.findByTestId("role-viewer"));
  expect(screen.getByRole("dialog").textContent).toContain("This is your own account");
});

it("asks before it removes, and tells elsewhere what failed", async () => {
  show();
  await choose("bob", "remove");
  expect(api.removeMember).not.toHaveBeenCalled();
  api.removeMember.mockResolvedValueOnce(undefined);
  await userEvent.click(await screen.findByTestId("confirm"));
  await waitFor(() => expect(api.removeMember).toHaveBeenCalledWith("red", "bob"));
  await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());

  api.putMember.mockRejectedValueOnce(new HttpError(0, "unreachable", "The server cannot be reached."));
  await choose("bob", "disable");
  await waitFor(() => expect(say).toHaveBeenCalledWith("The server cannot be reached."));
});

it("shows many a part at a time, and finds one among them", async () => {
  api.members.mockResolvedValue({ items: Array.from({ length: 150 }, (_, n) => member(`m${String(n)}`)) });
  show();
  expect(await screen.findAllByTestId("member-row")).toHaveLength(100);
  await userEvent.click(screen.getByTestId("more-members"));
  expect(screen.getAllByTestId("member-row")).toHaveLength(150);
  await userEvent.type(screen.getByTestId("find-member"), "M149");
  expect(screen.getAllByTestId("member-row").map((one) => one.dataset.account)).toEqual(["m149"]);
  await userEvent.type(screen.getByTestId("find-member"), "x");
  expect(screen.getByText("None is called so.")).toBeTruthy();
});

it("shows hidden characters of a name, and says who comes by a provider", async () => {
  api.members.mockResolvedValue({ items: [member("eve", "viewer", { name: "ev\u202ee" })] });
  api.providers.mockResolvedValue({ items: [{ id: "okta", label: "Okta" }] });
  show();
  expect(within(await screen.findByTestId("member-row")).getByTestId("hidden-character")).toBeTruthy();
  expect(await screen.findByText(/Whoever signs in with Okta/)).toBeTruthy();
});
