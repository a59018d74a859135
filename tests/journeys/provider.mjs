/**
 * OpenID providers for the journeys: the certified `oidc-provider`, with its own forms for login and consent.
 *
 *   node provider.mjs MODULES      one JSON line {"issuers": [URL, URL]} when they listen;
 *                                  reads one line [REDIRECT URI, REDIRECT URI] and then answers
 *
 * Whoever gives a login is that person; the groups of "boss…" and "ops…" are "bosses" and "ops".
 */
import { createServer } from "node:http";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const { Provider } = await import(pathToFileURL(join(process.argv[2], "oidc-provider", "lib", "index.js")).href);
const groupsOf = (id) => (id.startsWith("boss") ? ["bosses", "staff"] : id.startsWith("ops") ? ["ops"] : ["staff"]);

function configuration(redirect) {
  return {
    clients: [
      { client_id: "page", client_secret: "page-secret-page-secret-page-secret", redirect_uris: [redirect], grant_types: ["authorization_code"], response_types: ["code"] },
      { client_id: "ci", client_secret: "ci-secret-ci-secret-ci-secret-ci", redirect_uris: [], grant_types: ["client_credentials"], response_types: [] },
    ],
    cookies: { keys: ["only for tests"] },
    claims: { openid: ["sub"], profile: ["name"], groups: ["groups"] },
    conformIdTokenClaims: false,
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, name: `The ${id}`, groups: groupsOf(id) }) }),
    extraTokenClaims: () => ({ groups: ["ops"] }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => "urn:pilothouse",
        getResourceServerInfo: () => ({ scope: "use", audience: "urn:pilothouse", accessTokenFormat: "jwt", accessTokenTTL: 600, jwt: { sign: { alg: "RS256" } } }),
        useGrantedResource: () => true,
      },
    },
  };
}

const servers = [createServer(), createServer()];
await Promise.all(servers.map((one) => new Promise((done) => one.listen(0, "127.0.0.1", done))));
// Another site than 127.0.0.1, so that the browser treats it as one.
const issuers = servers.map((one) => `http://localhost:${one.address().port}`);
console.log(JSON.stringify({ issuers }));
createInterface(process.stdin).once("line", (line) => {
  JSON.parse(line).forEach((redirect, n) => servers[n].on("request", new Provider(issuers[n], configuration(redirect)).callback()));
  console.log("ready");
});
process.stdin.on("end", () => process.exit(0));
