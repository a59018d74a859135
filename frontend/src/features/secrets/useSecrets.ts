import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";
import type { Secret } from "../../net/secrets.ts";
import { api } from "../../wiring.ts";

/** Those of the reader, or of a session; what was done last, in words; and where the keyboard goes on after it. */
export function useSecrets(session?: string) {
  const queries = useQueryClient();
  const part = useRef<HTMLDivElement>(null);
  const [said, say] = useState("");
  const found = useQuery({ queryKey: session === undefined ? ["secrets"] : ["secrets", session], queryFn: ({ signal }) => api.secrets(session, signal) });
  const next = (): HTMLElement | null => part.current?.querySelector<HTMLElement>('input[data-testid="secret-name"]') ?? null;
  const done = async (words: string): Promise<void> => {
    await queries.invalidateQueries({ queryKey: ["secrets"] });
    say(words);
  };
  return {
    part,
    said,
    found,
    items: found.data?.items ?? [],
    next,
    forget: () => say(""),
    set: async (one: Secret) => {
      await done(`${one.name} is set. Shells that are opened and agents that are started from now on have it.`);
      next()?.focus();
    },
    replaced: (one: Secret) => done(`${one.name} is replaced. Shells that are opened and agents that are started from now on have the new value.`),
    removed: (one: Secret) => done(`${one.name} is removed.`),
  };
}
