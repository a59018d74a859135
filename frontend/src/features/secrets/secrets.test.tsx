// @vitest-environment jsdom
import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { cleanup, render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { Session } from "../../net/api.ts";
import { Http, HttpError } from "../../net/http.ts";
import { makeSecrets } from "../../net/secrets.ts";
import type { NewSecret, Place, Secret } from "../../net/secrets.ts";

const api = {
  secrets: vi.fn<(session?: string) => Promise<{ items: Secret[] }>>(),
  setSecret: vi.fn<(place: Place, name: string, body: NewSecret) => Promise<Secret>>(),
  removeSecret: vi.fn<(place: Place, name: string) => Promise<undefined>>(),
  sessions: vi.fn<() => Promise<{ items: { id: string; source?: object }[]; next: null }>>(),
  me: vi.fn<() => Promise<object>>(),
};
vi.mock("../../wiring.ts", () => ({ api, client: {}, http: {}, store: {} }));
const { Secrets } = await import("./Secrets.tsx");
const { SessionSecrets } = await import("./SessionSecrets.tsx");
const { hasLines, nameFault, refused, sinceWords, whereWords } = await import("./words.ts");

const AT = "2026-01-01T00:00:00.000Z";
const VALUE = "s3cret-canary-value";
const secret = (over: Partial<Secret> = {}): Secret => ({ name: "NPM_TOKEN", where: "account", for: "shells", file: false, masked: true, setAt: AT, setBy: "ann", ...over });
const OF_PROJECT = secret({ name: "GH_TOKEN", where: "project", project: { git: "https://git.example/a.git" }, for: "both" });
const OF_SESSION = secret({ name: "STAGING", where: "session", file: true, masked: false });

beforeEach(() => {
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: vi.fn(), removeEventListener: vi.fn() }));
  vi.stubGlobal("ResizeObserver", class { observe() { /* no layout here */ } disconnect() { /* nor here */ } unobserve() { /* nor here */ } });
  vi.resetAllMocks();
  api.secrets.mockResolvedValue({ items: [] });
  api.sessions.mockResolvedValue({ items: [{ id: "1", source: { git: "https://git.example/a.git" } }, { id: "2", source: { git: "https://git.example/a.git" } }, { id: "3" }], next: null });
  api.me.mockResolvedValue({ principal: { account: "ann" } });
});
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

function show(view = <Secrets files />): QueryClient {
  const queries = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  render(
    <MantineProvider env="test">
      <QueryClientProvider client={queries}>{view}</QueryClientProvider>
    </MantineProvider>,
  );
  return queries;
}
/** The stand-in for a browser reads none. */
const file = (content: number[] | string, name: string): File => {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : new Uint8Array(content);
  return Object.assign(new File([bytes], name), { arrayBuffer: () => Promise.resolve(bytes.buffer) });
};
const session = (over: Partial<Session> = {}): Session => ({ id: "s1", owner: "ann", isolation: "namespaces", rights: ["read", "run", "approve", "admin"], ...over }) as Session;
const everywhere = (queries: QueryClient): string =>
  document.documentElement.outerHTML + JSON.stringify([queries.getMutationCache().getAll().map((one) => one.state), queries.getQueryCache().getAll().map((one) => one.state)]) + window.location.href;

it("says where one counts, since when, and what is wrong with a name in the server's words", () => {
  const now = Date.parse(AT);
  expect([secret(), OF_PROJECT, OF_SESSION].map((one) => whereWords(one))).toEqual(["in all your sessions", "in your sessions of https://git.example/a.git", "in this session alone"]);
  expect(whereWords(secret(), "bob")).toBe("in all sessions of bob");
  expect(whereWords(OF_PROJECT, "bob")).toBe("in bob’s sessions of https://git.example/a.git");
  expect(sinceWords(secret(), now)).toBe("Set now by ann; never used");
  expect(sinceWords(secret({ setBy: "key:ci", lastUsedAt: AT }), now)).toBe("Set now by ci (API key); last used now");
  expect(nameFault("A_1")).toBeUndefined();
  expect(nameFault("npm")).toBe("'npm' is no name: A-Z, 0-9 and _, a letter first, at most 100");
  for (const name of ["", "..", "A/B", "1A", "A".repeat(101), "Ä"]) expect(nameFault(name)).toContain("is no name");
  const said = (message: string) => refused(new HttpError(400, "bad_request", message));
  expect(said("name: PATH may not be set")).toEqual({ field: "name", words: "PATH may not be set" });
  expect(said("source.git: only https:// URLs are cloned")).toEqual({ field: "project", words: "Only https:// URLs are cloned" });
  expect(said("There are 50 secrets already; remove some.")).toBeUndefined();
  expect(["a", "a\n", "a\r\n", "a\nb", "\na", "a\r\nb\r\n"].map(hasLines)).toEqual([false, false, false, true, true, true]);
});

it("sends a value in the body alone, with its place in the address", async () => {
  const fetched = vi.fn<(url: string, init: RequestInit) => Promise<Response>>(() => Promise.resolve(new Response("")));
  vi.stubGlobal("fetch", fetched);
  const calls = makeSecrets(new Http("http://here/"));
  const body: NewSecret = { value: VALUE, for: "both", file: false };
  await calls.setSecret({ where: "session", session: "s 1" }, "A", body);
  await calls.setSecret({ where: "project", project: { dir: "/a b" } }, "A", body);
  await calls.removeSecret({ where: "project", project: { git: "https://x/?a&b" } }, "A");
  await calls.removeSecret({ where: "account" }, "A");
  expect(fetched.mock.calls.map(([url, { method }]) => `${String(method)} ${url}`)).toEqual(["PUT http://here/api/sessions/s%201/secrets/A", "PUT http://here/api/secrets/A", "DELETE http://here/api/secrets/A?git=https%3A%2F%2Fx%2F%3Fa%26b", "DELETE http://here/api/secrets/A"]);
  expect(fetched.mock.calls.map(([, init]) => (init.body === undefined ? null : (JSON.parse(init.body as string) as object)))).toEqual([body, { ...body, project: { dir: "/a b" } }, null, null]);
});

it("says what secrets are for where there is none, and keeps a value in the field alone", async () => {
  const user = userEvent.setup();
  const queries = show();
  expect((await screen.findByTestId("no-secrets")).textContent).toContain("a token, a password or a key");
  const field = screen.getByLabelText("Value");
  expect([field.getAttribute("type"), field.getAttribute("autocomplete")]).toEqual(["password", "one-time-code"]);
  await user.type(screen.getByLabelText("Name"), " NPM_TOKEN ");
  await user.type(field, VALUE);
  expect(field).toHaveProperty("value", VALUE);
  expect(everywhere(queries)).not.toContain(VALUE);
  let done: ((one: Secret) => void) | undefined;
  api.setSecret.mockReturnValueOnce(new Promise((resolve) => (done = resolve)));
  await user.keyboard("{Enter}");
  expect(api.setSecret).toHaveBeenCalledWith({ where: "account" }, "NPM_TOKEN", { value: VALUE, for: "shells", file: false });
  expect(everywhere(queries)).not.toContain(VALUE);
  api.secrets.mockResolvedValue({ items: [secret()] });
  done?.(secret());
  expect(await screen.findByTestId("secret-row")).toBeTruthy();
  await waitFor(() => expect(screen.getByRole("status").textContent).toBe("NPM_TOKEN is set. Shells that are opened and agents that are started from now on have it."));
  expect(screen.getByLabelText("Value")).toHaveProperty("value", "");
  expect(document.activeElement).toBe(screen.getByLabelText("Name"));
  expect(everywhere(queries)).not.toContain(VALUE);
  await user.type(screen.getByLabelText("Name"), "NPM_TOKEN{Enter}");
  expect(screen.getByRole("alert").textContent).toBe("NPM_TOKEN is set already; replace it below.");
  expect(screen.getByRole("status").textContent).toBe("");
  expect(api.setSecret).toHaveBeenCalledTimes(1);
});

it("names what is wrong beside its field, which has the keyboard then", async () => {
  const user = userEvent.setup();
  show();
  const name = screen.getByLabelText("Name");
  await user.type(name, "a/b{Enter}");
  expect(screen.getByRole("alert").textContent).toBe("'a/b' is no name: A-Z, 0-9 and _, a letter first, at most 100");
  expect(api.setSecret).not.toHaveBeenCalled();
  await user.clear(name);
  expect(screen.queryByRole("alert")).toBeNull();
  api.setSecret.mockRejectedValueOnce(new HttpError(400, "bad_request", "name: names that begin with LD_ may not be set: programs and sessions are steered by it"));
  await user.type(name, "LD_PRELOAD");
  await user.type(screen.getByLabelText("Value"), `${VALUE}{Enter}`);
  const alert = await screen.findByRole("alert");
  expect(alert.textContent).toBe("Names that begin with LD_ may not be set: programs and sessions are steered by it");
  expect(document.activeElement).toBe(name);
  expect([name.getAttribute("aria-invalid"), name.getAttribute("aria-describedby")?.includes(alert.id)]).toEqual(["true", true]);
  expect(screen.getByLabelText("Value")).toHaveProperty("value", VALUE);
  api.setSecret.mockRejectedValueOnce(new HttpError(413, "too_large", "value: 20000 bytes, at most 16384"));
  await user.type(name, "{Backspace}{Enter}");
  await waitFor(() => expect(screen.getByRole("alert").textContent).toBe("20000 bytes, at most 16384"));
  expect(document.activeElement).toBe(screen.getByLabelText("Value"));
  api.setSecret.mockRejectedValueOnce(new HttpError(503, "unavailable", "No secret can be kept: the key file is gone"));
  await user.click(screen.getByTestId("secret-set"));
  await waitFor(() => expect(screen.getByRole("alert").textContent).toContain("No secret can be kept"));
});

it("takes several lines whole, which are in no field, and a file as it is", async () => {
  const user = userEvent.setup();
  const queries = show();
  api.setSecret.mockResolvedValue(secret());
  const value = (): HTMLInputElement => screen.getByLabelText("Value");
  await user.type(screen.getByLabelText("Name"), "KEY");
  await user.click(value());
  await user.paste("one-line\n");
  expect([value().type, value().readOnly]).toEqual(["password", false]);
  await user.clear(value());
  await user.paste("-----BEGIN\r\nabc\r\n-----END\r\n");
  expect([value().value, value().readOnly, document.activeElement === value()]).toEqual(["3 lines pasted, not shown", true, true]);
  expect(everywhere(queries)).not.toContain("-----BEGIN");
  await user.selectOptions(screen.getByLabelText("As"), "File");
  expect(screen.getByText("Its path is in KEY_FILE.")).toBeTruthy();
  await user.click(screen.getByTestId("secret-set"));
  await waitFor(() => expect(api.setSecret).toHaveBeenCalledWith({ where: "account" }, "KEY", { value: "-----BEGIN\nabc\n-----END\n", for: "shells", file: true }));
  await waitFor(() => expect(value().type).toBe("password"));

  const input = document.querySelector<HTMLInputElement>('input[type="file"]') as HTMLInputElement;
  await user.upload(input, file([0xff, 0xfe], "binary"));
  expect((await screen.findByRole("alert")).textContent).toBe("It is no text in UTF-8");
  await user.upload(input, file("x".repeat(16_385), "long"));
  await waitFor(() => expect(screen.getByRole("alert").textContent).toBe("16385 bytes, at most 16384"));
  await user.upload(input, file("a\r\n", "id.pem"));
  await waitFor(() => expect(value().value).toBe("1 line from id.pem, not shown"));
  expect(screen.queryByRole("alert")).toBeNull();
  await user.type(screen.getByLabelText("Name"), "KEY{Enter}");
  await waitFor(() => expect(api.setSecret).toHaveBeenLastCalledWith({ where: "account" }, "KEY", { value: "a\r\n", for: "shells", file: true }));

  await user.upload(document.querySelector<HTMLInputElement>('input[type="file"]') as HTMLInputElement, file("held", "x"));
  await user.click(await screen.findByTestId("secret-clear"));
  expect(document.activeElement).toBe(value());
  await user.type(value(), "typed");
  await user.type(screen.getByLabelText("Name"), "KEY{Enter}");
  await waitFor(() => expect(api.setSecret).toHaveBeenLastCalledWith({ where: "account" }, "KEY", { value: "typed", for: "shells", file: true }));
});

it("gives one to a project, and a file to shells alone", async () => {
  const user = userEvent.setup();
  show();
  api.setSecret.mockResolvedValue(OF_PROJECT);
  await user.type(screen.getByLabelText("Name"), "GH_TOKEN");
  await user.type(screen.getByLabelText("Value"), VALUE);
  await user.selectOptions(screen.getByLabelText("As"), "File");
  await user.selectOptions(screen.getByLabelText("Given to"), "Shells and agents");
  expect(screen.getByLabelText("As")).toHaveProperty("value", "");
  expect(screen.getByRole("option", { name: "File (shells only)" })).toHaveProperty("disabled", true);
  await user.selectOptions(screen.getByLabelText("Counts in"), "Those of a project");
  const field = screen.getByLabelText("Git URL or directory on the server");
  await waitFor(() => expect([...document.querySelectorAll("datalist option")].map((one) => one.getAttribute("value"))).toEqual(["https://git.example/a.git"]));
  await user.type(field, "a.git{Enter}");
  expect(screen.getByRole("alert").textContent).toBe("A git URL, or a directory on the server, from /");
  expect([document.activeElement === field, api.setSecret.mock.calls.length]).toEqual([true, 0]);
  await user.clear(field);
  await user.type(field, "https://git.example/a.git{Enter}");
  expect(api.setSecret).toHaveBeenCalledWith({ where: "project", project: { git: "https://git.example/a.git" } }, "GH_TOKEN", { value: VALUE, for: "both", file: false });
});

it("replaces and removes where that is confirmed, and the keyboard goes on", async () => {
  const user = userEvent.setup();
  api.secrets.mockResolvedValue({ items: [OF_PROJECT, secret()] });
  show();
  const [first, second] = await screen.findAllByTestId("secret-row");
  expect(first?.textContent).toContain("Shells and agents, in the environment; in your sessions of https://git.example/a.git");
  api.setSecret.mockResolvedValue(OF_PROJECT);
  await user.click(within(first as HTMLElement).getByTestId("secret-replace"));
  const dialog = await screen.findByRole("dialog", { name: "Replace GH_TOKEN" });
  expect(within(dialog).queryByLabelText("Name")).toBeNull();
  await user.type(within(dialog).getByLabelText("New value"), `${VALUE}{Enter}`);
  expect(api.setSecret).toHaveBeenCalledWith({ where: "project", project: { git: "https://git.example/a.git" } }, "GH_TOKEN", { value: VALUE, for: "both", file: false });
  await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
  expect(screen.getByRole("status").textContent).toContain("GH_TOKEN is replaced.");
  await user.click(within(second as HTMLElement).getByTestId("secret-remove"));
  expect(api.removeSecret).not.toHaveBeenCalled();
  api.secrets.mockResolvedValue({ items: [OF_PROJECT] });
  api.removeSecret.mockResolvedValue(undefined);
  await user.click(await screen.findByTestId("confirm"));
  expect(api.removeSecret).toHaveBeenCalledWith({ where: "account" }, "NPM_TOKEN");
  await waitFor(() => expect(screen.getByRole("status").textContent).toBe("NPM_TOKEN is removed."));
  await waitFor(() => expect(document.activeElement).toBe(screen.getByTestId("secret-name")));
});

it("lets those who share a session set its own, and nobody change another's", async () => {
  const items = [secret(), OF_SESSION];
  api.secrets.mockResolvedValue({ items });
  show(<SessionSecrets session={session()} onClose={() => undefined} />);
  const rows = await screen.findAllByTestId("secret-row");
  expect(api.secrets).toHaveBeenCalledWith("s1", expect.anything());
  expect(rows.map((row) => within(row).queryByTestId("secret-remove") !== null)).toEqual([false, true]);
  expect(rows[1]?.textContent).toContain("STAGING_FILE");
  expect(rows[1]?.textContent).toContain("So short that it is not masked");
  api.setSecret.mockResolvedValue(secret());
  expect(screen.queryByLabelText("Counts in")).toBeNull();
  await userEvent.type(screen.getByLabelText("Name"), "NPM_TOKEN");
  await userEvent.type(screen.getByLabelText("Value"), `${VALUE}{Enter}`);
  expect(api.setSecret).toHaveBeenCalledWith({ where: "session", session: "s1" }, "NPM_TOKEN", { value: VALUE, for: "shells", file: false });
  cleanup();
  show(<SessionSecrets session={session({ owner: "bob", rights: ["read", "run"], isolation: "none" })} onClose={() => undefined} />);
  const [row] = await screen.findAllByTestId("secret-row");
  await waitFor(() => expect(row?.textContent).toContain("in all sessions of bob"));
  expect(screen.queryByTestId("secret-remove")).toBeNull();
  expect(screen.queryByRole("form")).toBeNull();
  expect(screen.getByText(/sets its own/)).toBeTruthy();
});

it("says what could not be read, and asks again", async () => {
  api.secrets.mockRejectedValueOnce(new HttpError(500, "error", "Something broke."));
  show(<Secrets files={false} />);
  expect((await screen.findByRole("alert")).textContent).toContain("Something broke.");
  expect(screen.getByRole("option", { name: "File" })).toHaveProperty("disabled", true);
  await userEvent.click(screen.getByTestId("try-again"));
  expect(await screen.findByTestId("no-secrets")).toBeTruthy();
});
