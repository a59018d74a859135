import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";
import { mockServer } from "./dev/mock/plugin.ts";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const SERVER = "http://127.0.0.1:8420";

export default defineConfig(({ mode }) => ({
  // Relative, so that the page also works below a path of somebody's reverse proxy.
  base: "./",
  plugins: [react(), ...(mode === "mock" ? [mockServer()] : [])],
  build: {
    outDir: here("../src/pilothouse/web/static"),
    emptyOutDir: true,
    target: "es2022",
    // light-dark() stays as it is: the replacement for older browsers does not see the colour scheme set by script.
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    // The policy of the page allows no inline script and no data: font.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 900,
  },
  server: {
    host: "127.0.0.1",
    ...(mode === "mock" ? {} : { proxy: { "/api": { target: SERVER }, "/ws": { target: SERVER, ws: true } } }),
  },
  preview: { host: "127.0.0.1" },
  // No test measures a time: what takes long on a loaded machine is still right.
  test: { include: ["src/**/*.test.{ts,tsx}"], environment: "node", setupFiles: ["dev/patience.ts"], testTimeout: 60_000, hookTimeout: 60_000 },
}));
