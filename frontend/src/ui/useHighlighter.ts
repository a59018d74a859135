import { useQuery } from "@tanstack/react-query";
import type { Highlight } from "./highlighter.ts";

/** The highlighter, once it is loaded; until then, and without one, code is plain. */
export function useHighlighter(wanted: boolean): Highlight | undefined {
  const { data } = useQuery({
    queryKey: ["highlighter"],
    queryFn: async () => ({ highlight: (await import("./highlighter.ts")).highlight }),
    enabled: wanted,
    staleTime: Infinity,
    gcTime: Infinity,
  });
  return wanted ? data?.highlight : undefined;
}

/** What a file is written in, by its name. */
export function languageOfPath(path: string): string {
  const name = path.slice(path.lastIndexOf("/") + 1).toLowerCase();
  const end = name.lastIndexOf(".");
  return end > 0 ? name.slice(end + 1) : "";
}
