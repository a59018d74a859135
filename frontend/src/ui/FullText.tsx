import { Button, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { sayError } from "../net/http.ts";
import { api } from "../wiring.ts";
import { ExactBox } from "./Exact.tsx";
import { bytes } from "./words.ts";

/** A field that the log holds cut: the whole on request. */
export function FullText({ cut, name }: { cut: { size: number; url: string }; name: string }) {
  const [wanted, want] = useState(false);
  const full = useQuery({ queryKey: ["text", cut.url], queryFn: () => api.fullText(cut.url), enabled: wanted, staleTime: Infinity });
  if (full.data !== undefined) return <ExactBox text={full.data} limited label={`Whole ${name}`} />;
  return (
    <>
      <Button size="compact-xs" variant="subtle" loading={full.isFetching} onClick={() => want(true)}>
        Cut in the middle: load the whole {name} ({bytes(cut.size)})
      </Button>
      {full.error ? (
        <Text fz="sm" c="red" role="alert">
          {sayError(full.error)}
        </Text>
      ) : null}
    </>
  );
}
