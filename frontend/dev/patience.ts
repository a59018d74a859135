/** For the tests: what they wait for may take long where other programs have the processor. */
import { vi } from "vitest";

const PATIENCE_MS = 20_000;

const wait = vi.waitFor;
vi.waitFor = (what, options = PATIENCE_MS) => wait(what, options);
if (typeof document !== "undefined") {
  const { configure } = await import("@testing-library/react");
  configure({ asyncUtilTimeout: PATIENCE_MS });
}
