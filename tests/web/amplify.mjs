/**
 * AWS Amplify's `events` client, unmodified, told what to do line by line.
 *
 *   node amplify.mjs MODULES      reads {"do": verb, …}, answers each with one line {"ok": …} or {"error": …};
 *                                 what subscriptions hear comes between as {"heard": name, "event": …}
 *
 * Amplify makes wss of http; `HTTP://` it leaves alone.
 */
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.argv[2], "x.js"));
globalThis.WebSocket = require("ws").WebSocket;
const { Amplify } = require("aws-amplify");
const { Hub } = require("aws-amplify/utils");
const { events } = require("aws-amplify/data");

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const told = (error) => ({ name: error?.name, message: error?.errors?.[0]?.message ?? error?.message ?? String(error), type: error?.errors?.[0]?.errorType });
const channels = new Map();
const subscriptions = new Map();

Hub.listen("api", ({ payload }) => payload.data?.connectionState && say({ state: payload.data.connectionState }));

const verbs = {
  configure: ({ endpoint, mode, apiKey, credentials, token }) => {
    Amplify.configure(
      { API: { Events: { endpoint, region: "us-east-1", defaultAuthMode: mode, apiKey } } },
      {
        Auth: {
          credentialsProvider: { getCredentialsAndIdentityId: async () => ({ credentials }), clearCredentialsAndIdentityId() {} },
          tokenProvider: { getTokens: async () => token && { accessToken: { toString: () => token, payload: {} } } },
        },
      },
    );
  },
  connect: async ({ name, channel, options }) => void channels.set(name, await events.connect(channel, options)),
  subscribe: async ({ name, as = name, options }) => {
    const subscription = channels.get(name).subscribe(
      { next: (data) => say({ heard: as, event: data.event }), error: (error) => say({ failed: as, ...told(error) }) },
      options,
    );
    subscriptions.set(as, subscription);
    await subscription.ready;
  },
  unsubscribe: ({ as }) => subscriptions.get(as).unsubscribe(),
  publish: async ({ name, value, options }) => await channels.get(name).publish(value, options),
  post: async ({ channel, value, options }) => await events.post(channel, value, options),
  close: ({ name }) => channels.get(name).close(),
  closeAll: () => events.closeAll(),
};

for await (const line of createInterface(process.stdin)) {
  const asked = JSON.parse(line);
  try {
    say({ ok: (await verbs[asked.do](asked)) ?? null });
  } catch (error) {
    say({ error: told(error) });
  }
}
process.exit(0);
