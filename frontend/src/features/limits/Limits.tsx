import { ActionIcon, Tooltip } from "@mantine/core";
import { useDidUpdate, useDisclosure } from "@mantine/hooks";
import { Gauge } from "lucide-react";
import { lazy, Suspense, useRef } from "react";
import type { Session } from "../../net/api.ts";

const LimitsPanel = lazy(async () => ({ default: (await import("./LimitsPanel.tsx")).LimitsPanel }));

/** Opens what the session uses of what it may. */
export function Limits({ id, session }: { id: string; session: Session | undefined }) {
  const [open, panel] = useDisclosure(false);
  const button = useRef<HTMLButtonElement>(null);
  // The drawer comes and goes as a whole and so cannot give the focus back itself.
  useDidUpdate(() => {
    if (!open) button.current?.focus();
  }, [open]);
  return (
    <>
      <Tooltip label="Limits: what it uses of what it may">
        <ActionIcon ref={button} variant="subtle" color="gray" onClick={panel.open} aria-label="Limits" data-testid="limits">
          <Gauge size={18} />
        </ActionIcon>
      </Tooltip>
      <Suspense>{open ? <LimitsPanel id={id} state={session?.state} onClose={panel.close} /> : null}</Suspense>
    </>
  );
}
