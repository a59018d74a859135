/**
 * A stand-in for the server, for work on the page alone: it answers the HTTP API and the chat socket from memory with a
 * scripted session. A Vite plugin, so that it never gets into the bundle. `vite --mode mock` and `vite preview --mode mock`.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { Plugin } from "vite";
import { answer } from "./http.ts";
import { shellOf, view } from "./shells.ts";
import { follow } from "./socket.ts";
import { World } from "./world.ts";

export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'; " +
  "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

interface Host {
  middlewares: { use: (handle: (request: IncomingMessage, response: ServerResponse, next: () => void) => void) => unknown };
  httpServer: { on: (event: "upgrade", handle: (request: IncomingMessage, socket: Duplex, head: Buffer) => void) => unknown } | null;
}

export function mockServer(): Plugin {
  const install = (host: Host, policy: boolean): void => {
    const world = new World();
    const sockets = new WebSocketServer({ noServer: true, maxPayload: 8 * 1024 * 1024 });
    host.middlewares.use((request, response, next) => {
      if (policy) response.setHeader("content-security-policy", POLICY);
      if (request.url?.startsWith("/api/")) void answer(world, request, response);
      else next();
    });
    host.httpServer?.on("upgrade", (request, socket, head) => {
      const asked = shellOf(request);
      if (asked) return sockets.handleUpgrade(request, socket, head, (peer) => view(asked.shell, asked.query, peer));
      if (request.url?.startsWith("/api/")) return void socket.end("HTTP/1.1 404 Not Found\r\n\r\n");
      if (request.url !== "/ws") return;
      sockets.handleUpgrade(request, socket, head, (peer) => follow(world, peer));
    });
  };
  return {
    name: "pilothouse-mock-server",
    configureServer: (server) => install(server, false),
    configurePreviewServer: (server) => install(server, true),
  };
}
