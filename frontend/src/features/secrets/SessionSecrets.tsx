import { Anchor, Drawer, Group, Loader, Text } from "@mantine/core";
import { useState } from "react";
import { useMe } from "../../model/hooks.ts";
import { hrefOf } from "../../model/route.ts";
import type { Session } from "../../net/api.ts";
import { Fault } from "../../ui/Fault.tsx";
import { ALL_RIGHTS } from "../sharing/rights.ts";
import { SecretForm } from "./SecretForm.tsx";
import { SecretList } from "./SecretList.tsx";
import { None, Said } from "./Secrets.tsx";
import { useSecrets } from "./useSecrets.ts";

/** Those that reach a session. Its own are set by those who share it; the others by whoever they are of. */
export function SessionSecrets({ session, onClose }: { session: Session; onClose: () => void }) {
  const { part, said, found, items, next, forget, set, replaced, removed } = useSecrets(session.id);
  const account = useMe().data?.principal.account;
  const [asking, ask] = useState(false);
  const own = session.owner === undefined || session.owner === account;
  const may = (session.rights ?? ALL_RIGHTS).includes("admin");
  const files = session.isolation !== "none";
  return (
    <Drawer opened onClose={onClose} closeOnEscape={!asking} position="right" title="Secrets" size="md" closeButtonProps={{ "aria-label": "Close the secrets" }} data-testid="secrets-panel">
      <div ref={part} className="secrets">
        <Text fz="sm" c="dimmed">
          Values that shells or agents of this session are given when they start. Nobody is shown one again.
        </Text>
        <Fault error={found.error} again={() => void found.refetch()} />
        {found.isPending ? (
          <Group gap={8} fz="sm" c="dimmed" role="status">
            <Loader size={14} /> Reading…
          </Group>
        ) : null}
        {may ? <SecretForm place={{ where: "session", session: session.id }} items={items} files={files} onTry={forget} onSet={set} /> : null}
        <Said words={said} />
        {items.length > 0 ? <SecretList items={items} session={session.id} owner={own ? undefined : session.owner} files={files} may={(one) => may && one.where === "session"} onAsk={ask} onReplaced={replaced} onRemoved={removed} next={next} /> : null}
        {found.data?.items.length === 0 ? <None /> : null}
        <Text fz="xs" c="dimmed">
          {own ? (
            <>
              Those of all your sessions and of projects are in the{" "}
              <Anchor fz="inherit" underline="always" href={hrefOf({ page: "settings" })} onClick={onClose}>
                settings
              </Anchor>
              .
            </>
          ) : (
            "Those that count in more sessions than this one are changed by their owner."
          )}{" "}
          {may ? "" : "Who owns the session, or is an administrator, sets its own."}
        </Text>
      </div>
    </Drawer>
  );
}
