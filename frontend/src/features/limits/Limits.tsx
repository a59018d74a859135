import { ActionIcon, Tooltip } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { Gauge } from "lucide-react";
import { lazy, Suspense } from "react";
import type { Session } from "../../net/api.ts";

const LimitsPanel = lazy(async () => ({ default: (await import("./LimitsPanel.tsx")).LimitsPanel }));

/** Opens what the session uses of what it may. */
export function Limits({ id, session }: { id: string; session: Session | undefined }) {
  const [open, panel] = useDisclosure(false);
  return (
    <>
      <Tooltip label="Limits: what it uses of what it may">
        <ActionIcon variant="subtle" color="gray" onClick={panel.open} aria-label="Limits" data-testid="limits">
          <Gauge size={18} />
        </ActionIcon>
      </Tooltip>
      <Suspense>{open ? <LimitsPanel id={id} state={session?.state} onClose={panel.close} /> : null}</Suspense>
    </>
  );
}
