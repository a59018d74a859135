import { Text } from "@mantine/core";
import { Fault } from "../../ui/Fault.tsx";
import { Part } from "../settings/Settings.tsx";
import { SecretForm } from "./SecretForm.tsx";
import { SecretList } from "./SecretList.tsx";
import { useSecrets } from "./useSecrets.ts";

/** The reader's own: of all sessions, and of those of a project. */
export function Secrets({ files }: { files: boolean }) {
  const { part, said, found, items, next, forget, set, replaced, removed } = useSecrets();
  return (
    <Part title="Secrets">
      <div ref={part} className="secrets">
        <Text fz="sm" c="dimmed">
          Values that your shells or agents are given when they start. Nobody is shown one again: what they write has asterisks in its place.
        </Text>
        <Fault error={found.error} again={() => void found.refetch()} />
        <SecretForm items={items} files={files} onTry={forget} onSet={set} />
        <Said words={said} />
        {found.data && items.length > 0 ? <SecretList items={items} files={files} may={() => true} onReplaced={replaced} onRemoved={removed} next={next} /> : null}
        {found.data?.items.length === 0 ? <None /> : null}
      </div>
    </Part>
  );
}

/** What was done, also for those who do not see the list. */
export function Said({ words }: { words: string }) {
  return (
    <Text fz="sm" role="status" aria-live="polite" data-testid="secret-said">
      {words}
    </Text>
  );
}

export function None() {
  return (
    <Text fz="sm" data-testid="no-secrets">
      No secret yet. What a program needs and nobody is to read, such as a token, a password or a key, belongs here: not into a prompt, and not into a file of the workspace.
    </Text>
  );
}
